"""Each verb, and everything that must not be carried out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.rollout.commands import (
    HANDLED_LIMIT,
    RAW_LIMIT,
    UNSIGNED,
    Command,
    CommandResult,
    MalformedCommand,
    Verb,
    carry_out,
    parse_command,
)
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.trial import Step
from tests.unit.rollout.cases import NOON, REJECTION, STABLE, A, B, make_record, make_trial

STEPS = (Step(500), Step(None), Step(2_500))
RUNNING = make_record(B, trial=make_trial(steps=STEPS))
AT_PAUSE = make_record(B, trial=make_trial(steps=STEPS, step=1))
DONE = make_record(B, trial=make_trial(steps=STEPS, step=3))
REJECTED = make_record(B, rejection=REJECTION)
IDLE = make_record(B)


def obey(raw: str, target: Record, stable: Record | None = STABLE) -> tuple[Record, CommandResult | None]:
    command = parse_command(raw)
    assert command is not None
    return carry_out(command, target, stable, NOON)


def order(verb: str, target: Record, stable: Record | None = STABLE) -> tuple[Record, Reason]:
    after, result = obey(f"{verb}@{B}#1", target, stable)
    assert result is not None
    return after, result.reason


@pytest.mark.parametrize(
    ("verb", "target", "step"),
    [
        pytest.param("promote", RUNNING, 3, id="promote goes past the last step"),
        pytest.param("skip", RUNNING, 1, id="skip goes to the next step"),
        pytest.param("skip", AT_PAUSE, 2, id="skip leaves a pause"),
        pytest.param("skip", DONE, 3, id="skip cannot go further than the end"),
        pytest.param("resume", AT_PAUSE, 2, id="resume leaves a pause"),
    ],
)
def test_command_moves_the_ramp(verb: str, target: Record, step: int) -> None:
    after, reason = order(verb, target)
    assert reason is Reason.COMMAND_DONE
    assert after.trial is not None
    assert (after.trial.step, after.trial.entered_at(), after.trial.held(NOON)) == (step, NOON, NOON - NOON)
    assert after.handled == (f"{verb}#1",)
    assert (after.rejection, after.promotion) == (None, None)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ("", None),
        (f"skip@{B}#1", Command(f"skip@{B}#1", Verb.SKIP, B, "1")),
        (f" abort@{B}#a.b:c-d_9\n", Command(f"abort@{B}#a.b:c-d_9", Verb.ABORT, B, "a.b:c-d_9")),
        (f"destroy@{B}#1", MalformedCommand(f"destroy@{B}#1")),
        (" ", None),
    ],
)
def test_annotation_is_parsed_into_command(raw: str | None, expected: Command | MalformedCommand | None) -> None:
    assert parse_command(raw) == expected


@pytest.mark.parametrize(
    ("signature", "by"),
    [("alice", "alice"), (" alice\n", "alice"), (None, UNSIGNED), (" ", UNSIGNED), ("x" * 300, "x" * RAW_LIMIT)],
    ids=["signed", "blanks", "unsigned", "only blanks", "endless"],
)
@pytest.mark.parametrize("raw", [f"skip@{B}#1", "nonsense"], ids=["command", "malformed"])
def test_command_says_who_signed_it(raw: str, signature: str | None, by: str) -> None:
    command = parse_command(raw, signature)
    assert command is not None
    assert command.by == by
    _, result = carry_out(command, RUNNING, STABLE, NOON)
    assert result is not None
    assert result.by == by


def test_abort_rejects_the_canary() -> None:
    after, reason = order("abort", RUNNING)
    assert reason is Reason.COMMAND_DONE
    assert after.rejection
    assert (after.rejection.reason, after.rejection.at) == (Reason.ABORTED, NOON)


def test_retry_removes_rejection_and_old_trial() -> None:
    after, reason = order("retry", replace(REJECTED, trial=make_trial(step=2)))
    assert (reason, after.rejection) == (Reason.COMMAND_DONE, None)
    assert after.trial is None or after.trial.against != A, "the old trial goes on"


@pytest.mark.parametrize(
    ("verb", "target", "stable"),
    [
        pytest.param("resume", RUNNING, STABLE, id="resume without a pause"),
        pytest.param("resume", DONE, STABLE, id="resume after the last step"),
        pytest.param("retry", RUNNING, STABLE, id="retry of what runs"),
        *(
            pytest.param(verb, target, stable, id=f"{verb} {what}")
            for verb in ("promote", "abort", "resume", "skip")
            for what, target, stable in (
                ("without a trial", IDLE, STABLE),
                ("of a rejected revision", REJECTED, STABLE),
                ("before there is a stable", RUNNING, None),
            )
        ),
    ],
)
def test_impossible_command_is_ignored_now_and_later(verb: str, target: Record, stable: Record | None) -> None:
    after, reason = order(verb, target, stable)
    assert reason is Reason.COMMAND_IGNORED
    assert replace(after, handled=()) == target
    # The token is stored, or the command would be carried out weeks later on another canary.
    again, result = obey(f"{verb}@{B}#1", replace(RUNNING, handled=after.handled))
    assert (again.trial, again.rejection, result) == (RUNNING.trial, None, None)


def test_command_for_another_revision_is_ignored() -> None:
    target, result = obey(f"promote@{A}#1", RUNNING)
    assert target is RUNNING
    assert result is not None
    assert result.reason is Reason.COMMAND_IGNORED
    assert B in result.message


def test_command_is_carried_out_once() -> None:
    once, _ = obey(f"skip@{B}#1", RUNNING)
    assert obey(f"skip@{B}#1", once) == (once, None)
    twice, result = obey(f"skip@{B}#2", once)
    assert result is not None
    assert twice.handled == ("skip#1", "skip#2")


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.SKIP])
def test_token_of_another_verb_is_reported_and_changes_nothing(verb: Verb) -> None:
    once, _ = obey(f"skip@{B}#1", RUNNING)
    after, result = obey(f"{verb}@{B}#1", once)
    assert result is not None
    assert result.reason is Reason.COMMAND_IGNORED
    assert result.command == f"{verb}@{B}#1"
    assert "The token 1 was used for skip before" in result.message
    assert replace(after, handled=once.handled) == once
    assert obey(f"{verb}@{B}#1", after) == (after, None), "it is reported twice"


@pytest.mark.parametrize("verb", list(Verb))
def test_token_stored_without_verb_counts_for_every_verb(verb: Verb) -> None:
    target = replace(RUNNING, handled=("monday",))
    assert obey(f"{verb}@{B}#monday", target) == (target, None)


def test_command_is_remembered_whatever_comes_after_it() -> None:
    target, _ = obey(f"skip@{B}#in-git", RUNNING)
    for number in range(2 * HANDLED_LIMIT):
        target, _ = obey(f"resume@{B}#{number}", target)
    assert len(target.handled) == HANDLED_LIMIT
    assert obey(f"skip@{B}#in-git", target) == (target, None)


FULL = replace(RUNNING, handled=tuple(f"resume#{n}" for n in range(HANDLED_LIMIT)))


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.ABORT])
def test_revision_with_too_many_commands_gets_no_other(verb: Verb) -> None:
    after, result = obey(f"{verb}@{B}#new", FULL)
    assert after == FULL
    assert result is not None
    assert result.reason is Reason.COMMAND_IGNORED
    assert f"has had {HANDLED_LIMIT} commands" in result.message


def test_revision_with_too_many_commands_is_aborted_once() -> None:
    after, result = obey(f"abort@{B}#new", FULL)
    assert result is not None
    assert (result.reason, after.rejection is not None) == (Reason.COMMAND_DONE, True)
    assert obey(f"abort@{B}#new", after) == (after, None)
    assert obey(f"retry@{B}#newer", after)[0] == after, "retry would make the abort run twice"


def test_spaces_around_a_command_are_ignored() -> None:
    _, result = obey(f"  skip@{B}#1\n", RUNNING)
    assert result is not None
    assert result.reason is Reason.COMMAND_DONE


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("promote", id="a verb alone"),
        pytest.param(f"promote@{B}", id="no token"),
        pytest.param(f"promote@{B}#", id="an empty token"),
        pytest.param(f"destroy@{B}#1", id="an unknown verb"),
        pytest.param(f"PROMOTE@{B}#1", id="upper case"),
        pytest.param(f"promote @{B}#1", id="a blank inside"),
        pytest.param(f"promote@{B}#a b", id="a blank in the token"),
        pytest.param(f"promote@{B}#{'x' * 65}", id="a token too long"),
        pytest.param(f"promote@{B}#1\npromote@{B}#2", id="two lines"),
        pytest.param("x" * 300_000, id="as long as an annotation can be"),
    ],
)
def test_malformed_command_is_ignored_with_its_syntax(raw: str) -> None:
    target, result = obey(raw, RUNNING)
    assert target is RUNNING
    assert result is not None
    assert result.reason is Reason.COMMAND_IGNORED
    assert "<verb>@<revision>#<token>" in result.message
    assert len(result.command) <= RAW_LIMIT


@given(
    st.text(min_size=1) | st.from_regex(rf"[a-z]+@({A}|{B})#[A-Za-z0-9._:-]+"),
    st.sampled_from([RUNNING, AT_PAUSE, DONE, REJECTED, IDLE]),
)
def test_any_annotation_gets_an_answer_without_exception(raw: str, target: Record) -> None:
    after, result = obey(raw, target)
    assert result is not None
    assert (after.resolved, after.number, after.promotion) == (target.resolved, target.number, target.promotion)
    if result.reason is Reason.COMMAND_IGNORED:
        assert replace(after, handled=()) == target
