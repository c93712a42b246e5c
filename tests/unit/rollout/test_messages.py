"""What people read: the object and its numbers, why, and what to do; correct plurals, and durations such as 10m."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from serin.rollout.commands import parse_command
from serin.rollout.decide import decide
from serin.rollout.reasons import Reason
from serin.rollout.snapshot import NO_ROUTE, PodView, Snapshot, ready_of
from tests.unit.rollout.cases import (
    DOUBTFUL,
    HELD,
    MINUTE,
    NOON,
    NOTHING,
    PAUSES,
    TIMED,
    A,
    B,
    by_name,
    canary_at,
    canary_pods,
    make_engine,
    make_pods,
    make_record,
    make_route,
    make_spec,
    overdue,
    serving,
)

HOUR_AGO = NOON - timedelta(hours=1)


def installing(*pods: PodView) -> Snapshot:
    new = make_record(A, recorded=False)
    return serving(target=new, records=(), route=NO_ROUTE, engines=by_name(make_engine(A, *pods)))


def outside(revisions: dict[str, int]) -> Snapshot:
    """The route serves only revisions that have no record."""
    return serving(target=make_record(B, recorded=False), records=(), route=make_route(revisions), engines={})


REBUILD = (
    "Serin rebuilds one from Deployment, split document and PromptVersion, and one of these is missing. Restore the "
    "ControllerRevision from a backup, without its ownerReferences, or create the PromptVersion again."
)


@pytest.mark.parametrize(
    ("snapshot", "message"),
    [
        pytest.param(serving(), "The stable carries all traffic. 3 of 3 pods are Ready.", id="settled"),
        pytest.param(
            serving(spec=make_spec(replicas=1), engines=by_name(make_engine(A, *make_pods(1)))),
            "The stable carries all traffic. 1 of 1 pod is Ready.",
            id="settled with one pod",
        ),
        pytest.param(
            installing(*make_pods(0, 3, since=HOUR_AGO)),
            "The first revision is starting; it gets all traffic when its pods are Ready. 0 of 3 pods are Ready. "
            "They missed rollout.progressDeadline (30m); see their logs and events.",
            id="install past the progress deadline",
        ),
        pytest.param(
            canary_at(engines=canary_pods(*make_pods(0, 1, unschedulable="0/1 nodes are available."))),
            "0 of 1 pod is Ready, because a pod cannot start; add or free a node, raise the quota, or correct the "
            "policy: 0/1 nodes are available.",
            id="no node",
        ),
        pytest.param(
            canary_at(1, spec=make_spec(rollout=PAUSES)),
            f"The ramp waits for manual approval; annotate with serin.dev/do=resume@{B}#<token> to continue.",
            id="pause until a person resumes",
        ),
        pytest.param(
            canary_at(1, spec=make_spec(rollout=TIMED)),
            f"The ramp pauses for 1h and then continues; annotate with serin.dev/do=resume@{B}#<token> to continue at "
            "once.",
            id="timed pause",
        ),
        pytest.param(
            outside({A: 10_000}),
            f"Revision {A} runs without a ControllerRevision. {REBUILD}",
            id="one revision without record",
        ),
        pytest.param(
            outside({A: 5_000, B: 5_000}),
            f"Revisions {A} and {B} run without a ControllerRevision. {REBUILD}",
            id="two revisions without record",
        ),
    ],
)
def test_message_says_what_happened_why_and_what_to_do(snapshot: Snapshot, message: str) -> None:
    assert decide(snapshot).message == message


def test_missed_progress_deadline_names_pods_deadline_and_command() -> None:
    pods = make_pods(0, 1, since=NOON - 31 * MINUTE, waiting="ImagePullBackOff: no such image")
    decision = decide(canary_at(held=31 * MINUTE, engines=canary_pods(*pods), trial={"traffic_since": None}))

    assert decision.message == (
        f"Revision {B} was rolled back (ProgressDeadlineExceeded): 0 of 1 pod is Ready after rollout.progressDeadline "
        "(30m): ImagePullBackOff: no such image; see the pods' logs and events. Change the spec, or annotate with "
        f"serin.dev/do=retry@{B}#<token> to try it again."
    )


def test_stalled_canary_that_was_ready_names_pods_cause_and_command() -> None:
    pods = make_pods(0, 1, since=NOON - 31 * MINUTE, waiting="ImagePullBackOff: no such image")
    decision = decide(canary_at(held=31 * MINUTE, engines=canary_pods(*pods)))

    assert decision.stalled is Reason.PROGRESS_DEADLINE_EXCEEDED
    assert decision.message == (
        "0 of 1 pod is Ready after rollout.progressDeadline (30m): ImagePullBackOff: no such image; see the pods' logs "
        f"and events. Repair or delete the pod, or annotate with serin.dev/do=abort@{B}#<token>."
    )


@pytest.mark.parametrize("policy", ["Pause", "Rollback"])
def test_only_a_canary_paused_at_its_deadline_can_be_promoted_or_aborted(policy: str) -> None:
    decision = decide(canary_at(2, held=HELD, counts=DOUBTFUL, spec=make_spec(rollout=overdue(policy))))

    advice = f"annotate with serin.dev/do=promote@{B}#<token> or serin.dev/do=abort@{B}#<token>"
    assert "rollout.deadline has passed, but the measurements do not allow a promotion. errors: " in decision.message
    assert (advice in decision.message) == (policy == "Pause")


def test_no_traffic_message_gives_its_advice_once() -> None:
    assert decide(canary_at(held=HELD, counts=NOTHING)).message == (
        "No request of the canary has been counted in this step; check that requests arrive and that its pods are "
        "scraped."
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"skip@{B}#1", f"Serin carried out skip@{B}#1."),
        (
            f"skip@{A}#1",
            (
                f"The command names revision {A}, but the spec asks for {B}; if you mean that one, write "
                f"skip@{B}#<token>."
            ),
        ),
        (f"retry@{B}#1", f"Revision {B} was not rejected, so there is nothing to retry."),
        (f"resume@{B}#1", "The canary is not at a pause step; wait for one, or command skip."),
        (
            "promote",
            (
                "The annotation is not a command; write <verb>@<revision>#<token> with one of the verbs promote, "
                "abort, resume, skip, retry."
            ),
        ),
    ],
)
def test_result_of_command_says_what_to_do(command: str, message: str) -> None:
    decision = decide(replace(canary_at(), command=parse_command(command)))

    assert decision.command is not None
    assert decision.command.message == message


def test_command_on_invalid_spec_points_to_status_message() -> None:
    invalid = serving(target=None, spec_error="It is wrong; change it.", command=parse_command(f"skip@{B}#1"))
    result = decide(invalid).command

    assert result is not None
    assert result.message == "Serin cannot carry out the spec; correct what status.message names first."


@pytest.mark.parametrize(
    ("ready", "needed", "text"),
    [(0, 1, "0 of 1 pod is Ready"), (1, 1, "1 of 1 pod is Ready"), (1, 3, "1 of 3 pods are Ready")],
)
def test_plural_follows_the_number_of_wanted_pods(ready: int, needed: int, text: str) -> None:
    assert ready_of(ready, needed) == text
