"""The Events of a transition and of a command."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from serin.reporting.events import transition_events
from serin.rollout.commands import parse_command
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import Snapshot
from tests.unit.reporting.statuses import (
    INSTALLING,
    NO_STATUS,
    status_of,
)
from tests.unit.rollout.cases import (
    BAD,
    GOOD,
    NOON,
    A,
    B,
    canary_at,
    make_evidence,
    make_spec,
    serving,
)


def test_transition_is_one_event() -> None:
    running, paused = status_of(canary_at()), status_of(canary_at(spec=make_spec(paused=True)))
    (event,) = transition_events(running, paused)
    assert (event.reason, event.type, event.action) == (Reason.PAUSED, "Normal", Phase.PAUSED)
    (first,) = transition_events(NO_STATUS, status_of(INSTALLING))
    assert (first.reason, first.type) == (Reason.INSTALLING, "Normal")


def test_unchanged_phase_reason_and_step_are_no_event() -> None:
    running = status_of(canary_at())
    later = canary_at(now=NOON + timedelta(seconds=30), counts={A: GOOD[A], B: GOOD[A]})
    assert transition_events(running, running) == ()
    assert transition_events(running, status_of(later, running)) == ()


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        pytest.param(canary_at(counts=BAD), Reason.VERDICT_FAILED, id="rollback"),
        pytest.param(
            canary_at(saved_state=make_evidence(GOOD, expected_without_sample=20.0)), Reason.NO_TRAFFIC, id="no traffic"
        ),
    ],
)
def test_bad_phase_or_reason_is_a_warning(snapshot: Snapshot, reason: Reason) -> None:
    (event,) = transition_events(status_of(canary_at()), status_of(snapshot))
    assert (event.reason, event.type) == (reason, "Warning")


def test_event_of_a_step_names_the_step() -> None:
    (event,) = transition_events(status_of(canary_at()), status_of(canary_at(1)))
    assert event.message.endswith(f" Step 2/3. Canary: {B}.")


@pytest.mark.parametrize("snapshot", [canary_at(), canary_at(1), canary_at(counts=BAD), serving()])
def test_event_names_its_revision_once(snapshot: Snapshot) -> None:
    after = status_of(snapshot)
    (event,) = transition_events(NO_STATUS, after)
    revision = after.canary.revision if after.canary else A if after.rejected is None else after.rejected.revision
    assert revision is not None
    message = event.message.replace(f"@{revision}#", "")
    assert message.count(revision) == 1, event.message


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        pytest.param({"spec": make_spec(rollout={"ramp": {"adaptive": {}}})}, " The ramp is adaptive.", id="adaptive"),
        pytest.param({"step": 2, "trial": {"step": 3, "in_holdback": True}}, "", id="holdback"),
    ],
)
def test_event_without_a_numbered_step_names_none(changes: dict[str, Any], end: str) -> None:
    after = status_of(canary_at(**changes))
    (event,) = transition_events(NO_STATUS, after)
    assert event.message == f"{after.message}{end} Canary: {B}."


def test_command_is_one_event() -> None:
    before = status_of(canary_at())
    done = status_of(canary_at(command=parse_command(f"skip@{B}#1")), before)
    assert [(e.reason, e.action) for e in transition_events(before, done)][-1] == (Reason.COMMAND_DONE, "Command")


def test_event_of_ignored_command_quotes_it() -> None:
    before = status_of(canary_at())
    ignored = status_of(canary_at(command=parse_command(f"resume@{B}#1")), before)
    (event,) = transition_events(before, ignored)
    assert event.message.startswith(f"resume@{B}#1: ")


@pytest.mark.parametrize(("signature", "by"), [("alice", "alice"), (None, "unknown")], ids=["signed", "unsigned"])
def test_event_of_a_command_says_who_signed_it(signature: str | None, by: str) -> None:
    before = status_of(canary_at())
    for raw in (f"skip@{B}#1", "nonsense"):
        after = status_of(canary_at(command=parse_command(raw, signature)), before)
        assert after.last_handled_command
        assert after.last_handled_command.by == by
        assert transition_events(before, after)[-1].message.endswith(f" Signed by {by}.")


def test_ignored_command_is_a_warning_once() -> None:
    before = status_of(canary_at())
    ignored = status_of(canary_at(command=parse_command("nonsense")), before)
    (warning,) = transition_events(before, ignored)
    assert (warning.reason, warning.type) == (Reason.COMMAND_IGNORED, "Warning")
    assert transition_events(ignored, status_of(canary_at(command=parse_command("nonsense")), ignored)) == ()
