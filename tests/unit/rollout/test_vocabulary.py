"""Phases, reasons and attempts: what the whole core refers to."""

from __future__ import annotations

import pytest

from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.phases import TRANSITIONS, Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot
from tests.unit.rollout.cases import (
    BAD,
    NOON,
    STABLE,
    B,
    canary_at,
    serving,
)


def test_every_phase_can_be_reached_and_left() -> None:
    assert TRANSITIONS.keys() == set(Phase)
    assert all(after - {phase} for phase, after in TRANSITIONS.items())
    reachable, fresh = {Phase.INSTALLING}, {Phase.INSTALLING}
    while fresh:
        fresh = {after for phase in fresh for after in TRANSITIONS[phase]} - reachable
        reachable |= fresh
    assert reachable == set(Phase)
    assert {phase for phase, after in TRANSITIONS.items() if Phase.INSTALLING in after} == {Phase.BLOCKED}


def test_every_reason_is_a_word_with_a_sentence() -> None:
    for each in Reason:
        assert each.isalpha()
        assert each[0].isupper()
        assert each.explanation.endswith(".")


@pytest.mark.parametrize(
    "first",
    [canary_at(counts=BAD), canary_at(command=parse_command(f"abort@{B}#1"))],
    ids=["after a Fail", "after an abort"],
)
def test_retry_begins_the_second_attempt(first: Snapshot) -> None:
    rejected = decide(first).target
    assert rejected is not None
    retried = decide(serving(target=rejected, records=(STABLE, rejected), command=parse_command(f"retry@{B}#2"))).canary
    assert retried is not None
    assert retried.trial is not None
    assert (retried.trial.attempt, retried.trial.step, retried.trial.started_at) == (2, 0, NOON)
