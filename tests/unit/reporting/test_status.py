"""The status of an LLMDeployment, apart from its conditions and caveats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.reasons import Reason
from serin.rollout.record import Rejection
from tests.unit.reporting.statuses import (
    NOTHING_COUNTED,
    REJECTED,
    ROLLED_BACK,
    status_of,
)
from tests.unit.rollout.cases import (
    BAD,
    BLIND,
    DOUBTFUL,
    FEW,
    GOOD,
    MINUTE,
    NOON,
    REJECTION,
    STABLE,
    A,
    B,
    C,
    canary_at,
    make_route,
    make_spec,
    serving,
)


@pytest.mark.parametrize(
    ("weight", "text"),
    [(0, "0%"), (1, "0.01%"), (25, "0.25%"), (50, "0.5%"), (500, "5%"), (1_000, "10%"), (3_333, "33.33%")],
)
def test_weight_is_shown_in_percent(weight: int, text: str) -> None:
    seen = status_of(canary_at(route=make_route({A: 10_000 - weight, B: weight})))
    assert seen.canary is not None
    assert (seen.weight, seen.canary.weight) == (text, text)


@pytest.mark.parametrize(("step", "text"), [(0, "1/3"), (1, "2/3"), (2, "3/3"), (3, "3/3")])
def test_step_is_shown_with_the_number_of_steps(step: int, text: str) -> None:
    snapshot = canary_at(2, trial={"step": step}, held=MINUTE)
    assert status_of(snapshot).step == text


def test_canary_status_has_the_counts_of_the_verdict() -> None:
    seen = status_of(canary_at(counts=GOOD))
    assert seen.canary is not None
    assert seen.stable is not None
    assert (seen.stable.revision, seen.canary.revision, seen.canary.attempt) == (A, B, 1)
    assert (seen.verdict, seen.stable.weight, seen.stable.ready_replicas) == ("Pass", "95%", 3)
    errors, ttft = seen.metrics
    assert errors.canary is not None
    assert errors.stable is not None
    assert (errors.canary.requests, errors.canary.bad) == (1_500, 1)
    assert (errors.stable.requests, errors.stable.bad) == (10_000, 10)
    assert (errors.mode, errors.verdict, errors.evidence, errors.more_requests_needed) == ("Required", "Pass", 0, None)
    assert (ttft.mode, ttft.verdict, ttft.evidence) == ("Advisory", "NotApplicable", 0)
    assert (seen.replicas, seen.ready_replicas, seen.selector) == (4, 4, "serin.dev/deployment=triage")


def test_inconclusive_metric_says_how_many_requests_it_needs() -> None:
    errors = status_of(canary_at(2, counts=FEW)).metrics[0]
    assert errors.verdict == "Inconclusive"
    assert errors.message == (
        f"errors: needs about {errors.more_requests_needed} more canary requests (about 4 days at its present 0.0029 "
        "requests/s) to rule out 1.5 times the stable's error rate plus 0.5 percentage points: canary 0 bad of 10, "
        "stable 0 bad of 200."
    )


def test_counts_of_a_rollback_stay_after_it() -> None:
    snapshot = canary_at(counts=BAD)
    seen = status_of(snapshot)
    assert (seen.metrics[0].verdict, seen.metrics[0].evidence) == ("Fail", 100)
    rejected = decide(snapshot).target
    assert rejected is not None
    later = status_of(serving(target=rejected, records=(STABLE, rejected), saved_state=snapshot.saved_state), seen)
    assert later.metrics == seen.metrics


def test_last_counts_stay_if_the_rollback_itself_wrote_no_status() -> None:
    on_trial = canary_at(counts=DOUBTFUL)
    seen = status_of(on_trial)
    rejected = decide(canary_at(counts=BAD)).target
    assert rejected is not None
    later = status_of(serving(target=rejected, records=(STABLE, rejected)), seen)
    assert seen.metrics
    assert later.metrics == seen.metrics


def test_last_counts_stay_after_abort() -> None:
    on_trial = canary_at(counts=DOUBTFUL)
    seen = status_of(on_trial)
    aborted = status_of(replace(on_trial, command=parse_command(f"abort@{B}#1")), seen)
    assert aborted.rejected is not None
    assert aborted.metrics == seen.metrics


def test_last_counts_stay_while_metrics_are_unavailable() -> None:
    seen = status_of(canary_at(counts=DOUBTFUL))
    blind = status_of(canary_at(counts=NOTHING_COUNTED, readings=BLIND), seen)
    assert blind.metrics == seen.metrics


@pytest.mark.parametrize("other", [{"revision": C}, {"attempt": 2}], ids=["another revision", "another attempt"])
def test_counts_of_another_trial_do_not_stay_while_blind(other: dict[str, Any]) -> None:
    seen = status_of(canary_at(counts=BAD))
    before = status_of(canary_at(counts=DOUBTFUL))
    assert before.canary
    before = before.model_copy(update={"metrics": seen.metrics, "canary": before.canary.model_copy(update=other)})
    blind = status_of(canary_at(counts=NOTHING_COUNTED, readings=BLIND), before)
    assert [metric.verdict for metric in blind.metrics] == ["NotApplicable", "NotApplicable"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        pytest.param({"spec": make_spec(rollout={"ramp": {"adaptive": {}}})}, "adaptive", id="adaptive"),
        pytest.param({"step": 2, "trial": {"step": 3, "in_holdback": True}}, "holdback", id="holdback"),
        pytest.param({"step": 1}, "2/3", id="a step"),
    ],
)
def test_step_says_adaptive_or_holdback(changes: dict[str, Any], step: str) -> None:
    seen = status_of(canary_at(**changes))
    assert seen.canary is not None
    assert (seen.step, seen.canary.step) == (step, step)


def test_rejection_and_command_stay_in_the_status() -> None:
    seen = status_of(replace(ROLLED_BACK, command=parse_command(f"promote@{B}#1")))
    assert seen.rejected is not None
    assert (seen.rejected.revision, seen.rejected.at) == (B, REJECTION.at)
    assert seen.last_handled_command is not None
    assert seen.last_handled_command.outcome == Reason.COMMAND_IGNORED
    assert status_of(ROLLED_BACK, seen).last_handled_command == seen.last_handled_command


def test_long_message_is_truncated() -> None:
    endless = replace(REJECTED, rejection=Rejection(Reason.CANARY_CRASHED, "x" * 50_000, NOON))
    seen = status_of(serving(target=endless, records=(STABLE, endless)))
    assert seen.message is not None
    assert len(seen.message) <= 4_096
