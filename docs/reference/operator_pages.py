"""Generates `reasons.md`, `metrics.md` and `settings.md`: the operator's reasons, metrics and settings.

Called by `docs.reference.generate`. The labels of the metrics come from a Telemetry that has recorded one of each.
What to do about a reason is in docs/how-to, the alerts are in charts/serin.
"""

from __future__ import annotations

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
# Settings that the chart takes from a Secret.
FROM_A_SECRET = {
    "prometheus_username": "`username` of `prometheus.existingSecret`",
    "prometheus_password": "`password` of `prometheus.existingSecret`",
    "prometheus_bearer_token": "`token` of `prometheus.existingSecret`",
}
# Settings that the chart derives from the release and its pods.
FROM_THE_RELEASE = {
    "identity": "the pod's name",
    "namespace": "the release's namespace",
    "lease_name": "the release's full name",
}


def reasons_page() -> list[str]:
    """The page of phases and reasons."""
    meanings = docstrings(inspect.getsource(phases))
    rows = [
        (f"`{phase}`", meanings[phase.name], ", ".join(f"`{p}`" for p in Phase if p in TRANSITIONS[phase] - {phase}))
        for phase in Phase
    ]
    return [
        "# Phases and reasons",
        "",
        "A reason has the same meaning in conditions, Events, logs and `status.rejected`. What to do about each:",
        "[debug-at-night](../how-to/debug-at-night.md).",
        "",
        "## Phases",
        "",
        *table(("phase", "meaning", "possible next phases"), rows),
        "",
        "## Reasons",
        "",
        *table(("reason", "meaning"), [(f"`{reason}`", reason.explanation) for reason in Reason]),
    ]


def metrics_page() -> list[str]:
    """The page of the operator's own metrics.

    Raises:
        LookupError: a metric has no sample, so its labels are unknown.
    """
    rows = []
    for family in _fed_telemetry().registry.collect():
        if not family.samples:
            raise LookupError(
                f"{family.name} has no sample; add a call in _fed_telemetry of docs/reference/operator_pages.py."
            )
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(
            (f"`{name}`", family.type, ", ".join(f"`{label}`" for label in sorted(labels)), family.documentation)
        )
    values: dict[str, list[str]] = {"phase": list(Phase), "verdict": list(Verdict), "outcome": ["ok", "error"]}
    return [
        "# Metrics of the operator",
        "",
        "Every replica serves these metrics on port 9090 under `/metrics`. The labels `namespace` and `name` are those",
        "of the LLMDeployment, so scrape with `honor_labels: true`. When an LLMDeployment is deleted, its series are",
        "removed. A histogram has `_bucket`, `_count` and `_sum`. Alerts on these metrics:",
        "[the chart](../../charts/serin/README.md).",
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
    """The page of the operator's environment variables, with the chart value that sets each.

    Raises:
        LookupError: a setting has no docstring.
    """
    values = chart_values()
    rows = []
    for name, field in Settings.model_fields.items():
        if not field.description:
            raise LookupError(f"{name} has no docstring in serin.settings.Settings; add one.")
        default = "the host name" if field.is_required() else code(as_variable(field.default))
        elsewhere = FROM_THE_RELEASE | FROM_A_SECRET
        where = elsewhere.get(name) or values.get(name) or "`extraEnv`"
        rows.append((f"`SERIN_{name.upper()}`", default, where, field.description))
    return [
        "# Settings of the operator",
        "",
        "The operator reads these environment variables when it starts. An empty variable counts as absent; an invalid",
        "value ends the process with an error message. Durations are in seconds. The chart sets the variables from its",
        "values; set a variable without a value of its own in `extraEnv`.",
        "",
        *table(("variable", "default", "set by the chart from", "meaning"), rows),
    ]


def chart_values() -> dict[str, str]:
    """The chart value that sets each field of Settings, or the constant that the chart sets, by field."""
    found = {}
    for line in CHART.read_text(encoding="utf-8").splitlines():
        if variable := re.search(r"name: SERIN_([A-Z_]+), value: (.*)}$", line.strip()):
            value = re.search(r"\.Values\.([A-Za-z.]+)", variable[2])
            constant = variable[2].strip().strip('"')
            found[variable[1].lower()] = f"`{value[1]}`" if value else f"always {constant}"
    return found


def as_variable(value: object) -> str:
    """A default in the form of an environment variable."""
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
