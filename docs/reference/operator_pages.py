"""`reasons.md`, `metrics.md` and `settings.md`: what the operator says, exposes and is told.

Called by `docs.reference.generate`. Metrics are taken from a Telemetry that was fed once, so that their labels are the
real ones. Deliberately not here: what to do about a reason (docs/how-to) and alerts (charts/serin).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import structlog

from docs.reference.texts import code, docstrings, table
from serin.analysis.verdict import Judgement, Verdict
from serin.cluster.port import DEPLOYMENT
from serin.rollout import phases
from serin.rollout.decision import Decision
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.reasons import Reason
from serin.settings import Settings
from serin.telemetry import Telemetry

CHART = Path(__file__).parents[2] / "charts" / "serin" / "templates" / "deployment.yaml"
# What the settings leave to the name of a field. A field without any meaning, or with two, is an error.
MEANINGS = {
    "lease_name": "Name of the Lease by which the replicas elect their leader.",
    "prometheus_url": "The Prometheus that evidence is read from, as the operator's pods reach it.",
    "prometheus_timeout": "Bound of a single query.",
    "prometheus_password": "With the user name.",
    "requests_backend_label": "Label of that counter that names the backend.",
    "requests_code_label": "Label of that counter that holds the response code, three digits.",
    "running_metric": "Gauge of the requests that an engine works on; draining waits until it is zero.",
    "waiting_metric": "Gauge of the requests that wait inside an engine; draining waits until it is zero.",
    "deployment_label": "Target label that names the LLMDeployment, from the pod label `serin.dev/deployment`.",
    "engine_revision_label": "Target label that names the engine revision, from `serin.dev/engine-revision`.",
    "probe_port": "Port of `/healthz` and `/readyz`.",
    "metrics_port": "Port of `/metrics`.",
    "log_level": "`debug`, `info`, `warning` or `error`.",
}
# What the chart takes from a Secret.
FROM_A_SECRET = {
    "prometheus_username": "`username` of `prometheus.existingSecret`",
    "prometheus_password": "`password` of `prometheus.existingSecret`",
    "prometheus_bearer_token": "`token` of `prometheus.existingSecret`",
}
# What the chart takes from the release and its pods instead of from a value.
FROM_THE_RELEASE = {
    "identity": "the pod's name",
    "namespace": "the release's namespace",
    "lease_name": "the release's full name",
}


def reasons_page() -> list[str]:
    """Phases and reasons."""
    said = docstrings(inspect.getsource(phases))
    rows = [
        (f"`{phase}`", said[phase.name], ", ".join(f"`{p}`" for p in Phase if p in TRANSITIONS[phase] - {phase}))
        for phase in Phase
    ]
    return [
        "# Phases and reasons",
        "",
        "A reason means the same in conditions, Events, logs and `status.rejected`. What to do about one:",
        "[debug-at-night](../how-to/debug-at-night.md).",
        "",
        "## Phases",
        "",
        *table(("phase", "meaning", "may be followed by"), rows),
        "",
        "## Reasons",
        "",
        *table(("reason", "meaning"), [(f"`{reason}`", reason.explanation) for reason in Reason]),
    ]


def metrics_page() -> list[str]:
    """The operator's own metrics.

    Raises:
        LookupError: a metric was not fed below, so its labels are not known.
    """
    rows = []
    for family in _fed_telemetry().registry.collect():
        if not family.samples:
            raise LookupError(f"{family.name} has no sample; feed it in docs/reference/operator_pages.py.")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(
            (f"`{name}`", family.type, ", ".join(f"`{label}`" for label in sorted(labels)), family.documentation)
        )
    values: dict[str, list[str]] = {"phase": list(Phase), "verdict": list(Verdict), "outcome": ["ok", "error"]}
    return [
        "# Metrics of the operator",
        "",
        "Served by every replica on port 9090 under `/metrics`. `namespace` and `name` are the LLMDeployment's, so",
        "scrape with `honor_labels`. The series of an LLMDeployment go when it goes. A histogram has `_bucket`,",
        "`_count` and `_sum`. Alerts on these metrics: [the chart](../../charts/serin/README.md).",
        "",
        *table(("metric", "type", "labels", "meaning"), rows),
        "",
        *table(("label", "values"), [(f"`{name}`", ", ".join(f"`{v}`" for v in vs)) for name, vs in values.items()]),
    ]


def _fed_telemetry() -> Telemetry:
    telemetry = Telemetry()
    decision = Decision(Phase.STABLE, Reason.SERVING, "", judgement=Judgement(Verdict.PASS, ""))
    with structlog.testing.capture_logs():
        telemetry.decided(("namespace", "name"), 1, decision, (), writes=0)
    telemetry.timed("ok", 0.0)
    telemetry.wrote(DEPLOYMENT, "apply")
    telemetry.read_evidence(0.0, failed=False)
    return telemetry


def settings_page() -> list[str]:
    """The operator's environment variables, and which value of the chart sets each.

    Raises:
        LookupError: a setting has no meaning, or two.
    """
    said = docstrings(inspect.getsource(Settings))
    values = chart_values()
    rows = []
    for field in dataclasses.fields(Settings):
        if (field.name in said) == (field.name in MEANINGS):
            raise LookupError(f"{field.name} needs one meaning: a docstring in Settings, or else an entry in MEANINGS.")
        default = "the host name" if field.default is dataclasses.MISSING else code(as_variable(field.default))
        elsewhere = FROM_THE_RELEASE | FROM_A_SECRET
        where = elsewhere.get(field.name) or values.get(field.name) or "`extraEnv`"
        rows.append((f"`SERIN_{field.name.upper()}`", default, where, said.get(field.name) or MEANINGS[field.name]))
    return [
        "# Settings of the operator",
        "",
        "Read once from the environment. An empty variable counts as absent; a value that cannot be read ends the",
        "process with a sentence. Durations are seconds. The chart sets the variables from its values; one that has no",
        "value of its own can be given in `extraEnv`.",
        "",
        *table(("variable", "default", "set by the chart from", "meaning"), rows),
    ]


def chart_values() -> dict[str, str]:
    """By field of Settings: the chart's value that sets it, or the constant that the chart writes."""
    found = {}
    for line in CHART.read_text(encoding="utf-8").splitlines():
        if variable := re.search(r"name: SERIN_([A-Z_]+), value: (.*)}$", line.strip()):
            value = re.search(r"\.Values\.([A-Za-z.]+)", variable[2])
            constant = variable[2].strip().strip('"')
            found[variable[1].lower()] = f"`{value[1]}`" if value else f"always {constant}"
    return found


def as_variable(value: object) -> str:
    """A default as it would stand in the environment."""
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
