"""Metrics and logs: one log event per reconcile, and no series of deleted LLMDeployments."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest
import structlog

from serin.analysis.verdict import Judgement, Verdict
from serin.api.status import Condition
from serin.cluster.port import DEPLOYMENT
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Resolved
from serin.telemetry import Telemetry, configure_logging

KEY = ("ns", "triage")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
CANARY = Record(Resolved("r2", "e2", "triage", "file:///m", "image", {}), number=2)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def decision(phase: Phase = Phase.RAMPING, verdict: Verdict | None = Verdict.INCONCLUSIVE) -> Decision:
    judgement = Judgement(verdict, "Because.") if verdict else None
    weights = {"r1": 9500, "r2": 500}
    return Decision(phase, Reason.ACCEPTED, "It goes on.", canary=CANARY, weights=weights, judgement=judgement)


def series(telemetry: Telemetry, name: str) -> dict[str, float]:
    found = {}
    for line in telemetry.exposition(1).decode().splitlines():
        key, _, value = line.rpartition(" ")
        if key.startswith(name) and not line.startswith("#"):
            found[key.removeprefix(name)] = float(value)
    return found


def test_phase_is_one_series_at_a_time() -> None:
    telemetry = Telemetry()
    telemetry.decided(KEY, 1, decision(Phase.RAMPING), (), 1)
    telemetry.decided(KEY, 1, decision(Phase.PROMOTING), (), 1)
    assert series(telemetry, "serin_rollout_phase") == {'{name="triage",namespace="ns",phase="Promoting"}': 1.0}
    assert series(telemetry, "serin_rollout_canary_weight_ratio") == {'{name="triage",namespace="ns"}': 0.05}


def test_verdict_is_counted_when_it_changes() -> None:
    telemetry = Telemetry()
    for verdict in (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.FAIL, None, Verdict.FAIL):
        telemetry.decided(KEY, 1, decision(verdict=verdict), (), 0)
    counts = series(telemetry, "serin_verdicts_total")
    assert counts['{name="triage",namespace="ns",verdict="Inconclusive"}'] == 1
    assert counts['{name="triage",namespace="ns",verdict="Fail"}'] == 2


@pytest.mark.parametrize(
    ("type_", "status", "name", "value"),
    [
        ("Stalled", "True", "serin_rollout_stalled", 1.0),
        ("Stalled", "False", "serin_rollout_stalled", 0.0),
        ("MetricsAvailable", "False", "serin_rollout_blind", 1.0),
        ("MetricsAvailable", "True", "serin_rollout_blind", 0.0),
        ("MetricsAvailable", "Unknown", "serin_rollout_blind", 0.0),
    ],
)
def test_alert_gauges_follow_the_conditions(
    type_: str, status: Literal["True", "False", "Unknown"], name: str, value: float
) -> None:
    telemetry = Telemetry()
    condition = Condition(
        type=type_, status=status, observed_generation=1, last_transition_time=NOON, reason="Because", message="So."
    )
    telemetry.decided(KEY, 1, decision(), (condition,), 1)
    assert series(telemetry, name) == {'{name="triage",namespace="ns"}': value}


def test_series_of_deleted_llmdeployment_are_removed() -> None:
    telemetry = Telemetry()
    telemetry.decided(KEY, 1, decision(), (), 1)
    telemetry.decided(("ns", "other"), 1, decision(), (), 1)
    telemetry.forget(KEY)
    telemetry.forget(("ns", "never-seen"))
    exposition = telemetry.exposition(1).decode()
    assert "triage" not in exposition
    assert 'name="other"' in exposition


def test_writes_reads_and_leadership_are_recorded() -> None:
    telemetry = Telemetry()
    telemetry.wrote(DEPLOYMENT, "apply")
    telemetry.timed("error", 0.2)
    telemetry.read_evidence(0.1, failed=True)
    telemetry.leads(leading=True)
    assert series(telemetry, "serin_api_writes_total") == {'{kind="Deployment",verb="apply"}': 1.0}
    assert series(telemetry, "serin_reconcile_duration_seconds_count") == {'{outcome="error"}': 1.0}
    assert series(telemetry, "serin_evidence_read_duration_seconds_count") == {'{outcome="error"}': 1.0}
    assert series(telemetry, "serin_leader") == {"": 1.0}
    assert series(telemetry, "serin_workqueue_keys") == {"": 1.0}


def test_reconcile_logs_one_json_line_only_if_it_wrote(logged: io.StringIO) -> None:
    telemetry = Telemetry()
    telemetry.decided(KEY, 3, decision(), (), 2)
    telemetry.decided(KEY, 3, decision(), (), 0)
    (line,) = lines(logged)
    told = {name: line[name] for name in ("event", "namespace", "name", "generation", "phase", "canary", "weight")}
    assert told == {
        "event": "reconciled",
        "namespace": "ns",
        "name": "triage",
        "generation": 3,
        "phase": "Ramping",
        "canary": "r2",
        "weight": 0.05,
    }
    assert line["level"] == "info"
    assert datetime.fromisoformat(str(line["timestamp"])).tzinfo == UTC


def test_other_loggers_write_json_with_tracebacks(logged: io.StringIO) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        logging.getLogger("kopf.test").exception("It %s.", "broke")
    logging.getLogger("kopf.objects").info("Handler succeeded.")
    (line,) = lines(logged)
    assert line["event"] == "It broke."
    assert "ZeroDivisionError: integer division" in str(line["exception"])
