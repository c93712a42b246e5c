"""Commands from people: the annotation `serin.dev/do: "<verb>@<revision>#<token>"`, signed in `serin.dev/by`.

A command names a revision and is carried out once per token, so a stale or repeated command does nothing. The
reconciler parses the annotation once (`parse_command`); `serin.rollout.decide` carries the command out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.trial import Trial

HANDLED_LIMIT = 500
"""Commands stored per revision, at most 38 KB. None is ever forgotten: a command that stays in Git would run again."""
RAW_LIMIT = 256
"""Characters of an annotation that a report repeats; an annotation may have 256 KiB."""
UNSIGNED = "unknown"
"""Who wrote a command without a signature."""


class Verb(StrEnum):
    """What a person can command."""

    PROMOTE = "promote"
    ABORT = "abort"
    RESUME = "resume"
    SKIP = "skip"
    RETRY = "retry"


_PATTERN = re.compile(rf"({'|'.join(Verb)})@([0-9a-f]{{1,64}})#([A-Za-z0-9._:-]{{1,64}})")


@dataclass(frozen=True)
class Command:
    """What a person commands."""

    raw: str
    """The value of the annotation."""
    verb: Verb
    revision: str
    token: str
    by: str = UNSIGNED
    """The user name that signs it; the chart's admission policies make sure that it is the writer's."""

    @property
    def handled_as(self) -> str:
        """What a record remembers of it."""
        return f"{self.verb}#{self.token}"


@dataclass(frozen=True)
class MalformedCommand:
    """An annotation that is not a command; it is reported and changes nothing."""

    raw: str
    by: str = UNSIGNED


@dataclass(frozen=True)
class CommandResult:
    """What became of a command, for status and Event."""

    command: str
    """The annotation, at most RAW_LIMIT characters of it."""
    reason: Reason
    message: str
    by: str = UNSIGNED
    """Who signed the command, at most RAW_LIMIT characters."""


def parse_command(raw: str | None, signature: str | None = None) -> Command | MalformedCommand | None:
    """The command in the value of the annotation, signed with the value of the other one; None without a command."""
    raw = (raw or "").strip()
    if not raw:
        return None
    by = (signature or "").strip()[:RAW_LIMIT] or UNSIGNED
    parsed = _PATTERN.fullmatch(raw)
    return Command(raw, Verb(parsed[1]), parsed[2], parsed[3], by) if parsed else MalformedCommand(raw, by)


def carry_out(
    command: Command | MalformedCommand, target: Record, stable: Record | None, now: datetime
) -> tuple[Record, CommandResult | None]:
    """The target after the command, and what to report; the target unchanged and None if it was handled before.

    A canary runs if the target has a trial and is not rejected.
    """
    if isinstance(command, MalformedCommand):
        verbs = ", ".join(Verb)
        why = f"The annotation is not a command; write <verb>@<revision>#<token> with one of the verbs {verbs}."
        return target, ignored(command, why)
    if command.revision != target.revision:
        why = (
            f"The command names revision {command.revision}, but the spec asks for {target.revision}; if you mean that "
            f"one, write {command.verb}@{target.revision}#<token>."
        )
        return target, ignored(command, why)
    if _is_handled(command, target):
        return target, None
    if len(target.handled) >= HANDLED_LIMIT:
        return _carry_out_unrecorded(command, target, stable, now)
    changed, problem = target, _token_used(command, target)
    if problem is None:
        changed, problem = _apply(command.verb, target, stable, now)
    if problem:
        # The token counts as handled, or the command would be carried out weeks later on another canary.
        return _with_token(target, command), ignored(command, problem)
    return _with_token(changed, command), CommandResult(command.raw, Reason.COMMAND_DONE, _done(command), command.by)


def _carry_out_unrecorded(
    command: Command, target: Record, stable: Record | None, now: datetime
) -> tuple[Record, CommandResult | None]:
    """The result for a record that has no room for another command: only abort, which cannot be undone then."""
    if command.verb is Verb.ABORT:
        if target.rejection:  # perhaps by this very command
            return target, None
        changed, problem = _apply(command.verb, target, stable, now)
        if problem is None:
            return changed, CommandResult(command.raw, Reason.COMMAND_DONE, _done(command), command.by)
    why = (
        f"Revision {target.revision} has had {HANDLED_LIMIT} commands, and Serin remembers no more; it can only be "
        "aborted. Change the spec to make a new revision."
    )
    return target, ignored(command, why)


def _done(command: Command) -> str:
    return f"Serin carried out {command.raw}."


def _is_handled(command: Command, record: Record) -> bool:
    """Whether the record has the command. Serin 0.1 stored tokens without their verb."""
    return not {command.handled_as, command.token}.isdisjoint(record.handled)


def _token_used(command: Command, record: Record) -> str | None:
    """The sentence about another verb that had the same token; None if there is none."""
    used = (entry.partition("#") for entry in record.handled)
    verb = next((verb for verb, _, token in used if token == command.token), None)
    return verb and f"The token {command.token} was used for {verb} before; write the command again with another token."


def _with_token(record: Record, command: Command) -> Record:
    if len(record.handled) >= HANDLED_LIMIT:
        return record
    return replace(record, handled=(*record.handled, command.handled_as))


def _apply(verb: Verb, target: Record, stable: Record | None, now: datetime) -> tuple[Record, str | None]:
    trial = target.trial
    if verb is Verb.RETRY:
        if not target.rejection:
            return target, f"Revision {target.revision} was not rejected, so there is nothing to retry."
        # Against no stable, so that a new trial starts; the old one stays because it has the number of the attempt.
        return replace(target, rejection=None, trial=trial and replace(trial, against="")), None
    if target.rejection or trial is None or stable is None:
        return target, f"Revision {target.revision} is not on trial, so {verb} has no effect; see status.phase."
    if verb is Verb.ABORT:
        rejection = Rejection(Reason.ABORTED, Reason.ABORTED.explanation, now)
        return replace(target, rejection=rejection), None
    at_pause = not trial.is_past_ramp and trial.steps[trial.step].weight is None
    if verb is Verb.RESUME and not (at_pause or trial.withdrawn_because):
        return target, "The canary is not at a pause step; wait for one, or command skip."
    return replace(target, trial=_after(verb, trial, now)), None


def _after(verb: Verb, trial: Trial, now: datetime) -> Trial:
    """The trial after promote, resume or skip; resume and skip end the step or the holdback."""
    if verb is Verb.PROMOTE:
        return replace(trial.at_step(len(trial.steps), now), forced=True)
    if trial.withdrawn_because:  # the ramp begins again
        return replace(trial.at_step(0, now), withdrawn_because=None, weight=0, in_holdback=False)
    if trial.in_holdback and trial.holdback:
        return replace(trial, holdback=replace(trial.holdback, hold=timedelta()))
    return trial.at_step(min(trial.step + 1, len(trial.steps)), now)


def handled_elsewhere(
    command: Command | MalformedCommand | None, records: tuple[Record, ...], target: Record | None
) -> tuple[Record, ...]:
    """The record of another revision than the spec's that the command names, with the command added as handled.

    Otherwise the command would be carried out later, when the spec returns to that revision.
    """
    if not isinstance(command, Command) or (target and command.revision == target.revision):
        return ()
    return tuple(
        _with_token(record, command)
        for record in records
        if names(command, record.revision) and not _is_handled(command, record)
    )


def was_handled(command: Command | MalformedCommand, records: tuple[Record, ...]) -> bool:
    """Whether the record that a command names has it; then it was reported before."""
    return isinstance(command, Command) and any(
        names(command, record.revision) and _is_handled(command, record) for record in records
    )


def names(command: Command | MalformedCommand | None, revision: str) -> bool:
    """Whether the command is for this revision."""
    return isinstance(command, Command) and command.revision == revision


def ignored(command: Command | MalformedCommand, why: str) -> CommandResult:
    """The report of a command that is not carried out."""
    return CommandResult(command.raw[:RAW_LIMIT], Reason.COMMAND_IGNORED, why, command.by)
