"""Commands from people: the annotation `serin.dev/do: "<verb>@<revision>#<token>"`.

Bound to a revision and carried out once per token, so that a stale or repeated one does nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection
from serin.rollout.trial import Trial

HANDLED_LIMIT = 20
"""Tokens remembered per revision; more commands than that on one revision are not expected from people."""
_PATTERN = re.compile(r"(?P<verb>[a-z]+)@(?P<revision>[0-9a-f]{1,64})#(?P<token>[A-Za-z0-9._:-]{1,64})")


class Verb(StrEnum):
    """What a person can order."""

    PROMOTE = "promote"
    ABORT = "abort"
    RESUME = "resume"
    SKIP = "skip"
    RETRY = "retry"


@dataclass(frozen=True)
class CommandResult:
    """What became of a command, for status and Event."""

    command: str
    reason: Reason
    message: str


def carry_out(raw: str, target: Record, stable: Record | None, now: datetime) -> tuple[Record, CommandResult | None]:
    """The target after the command, and what to report; the target unchanged and None if the token was handled before.

    Whether a canary runs is read off the target: it does if it has a trial and is not rejected.
    """
    parsed = _PATTERN.fullmatch(raw.strip())
    if not parsed or parsed["verb"] not in set(Verb):
        verbs = ", ".join(Verb)
        return target, ignored(raw, f"It does not read <verb>@<revision>#<token> with a verb of {verbs}; write it so.")
    if parsed["revision"] != target.revision:
        return target, ignored(raw, f"It names another revision than the spec's, {target.revision}; name that one.")
    if parsed["token"] in target.handled:
        return target, None
    changed, problem = _apply(Verb(parsed["verb"]), target, stable, now)
    # Remembered even if it made no sense, or it would be carried out weeks later, on a canary that nobody has seen yet.
    handled = (*target.handled, parsed["token"])[-HANDLED_LIMIT:]
    if problem:
        return replace(target, handled=handled), ignored(raw, problem)
    return replace(changed, handled=handled), CommandResult(raw, Reason.COMMAND_DONE, f"{raw} was carried out.")


def _apply(verb: Verb, target: Record, stable: Record | None, now: datetime) -> tuple[Record, str | None]:
    trial = target.trial
    if verb is Verb.RETRY:
        problem = None if target.rejection else "The revision is not rejected; there is nothing to retry."
        # Against nobody, so that it is begun anew; it stays for the count of attempts.
        return replace(target, rejection=None, trial=trial and replace(trial, against="")), problem
    if target.rejection or trial is None or stable is None:
        return target, f"No canary of revision {target.revision} runs; see status.phase before you command."
    if verb is Verb.ABORT:
        rejection = Rejection(Reason.ABORTED, "A person aborted the canary.", now)
        return replace(target, rejection=rejection), None
    if verb is Verb.RESUME and (trial.step >= len(trial.steps) or trial.steps[trial.step].weight is not None):
        return target, "The ramp is not at a pause step; wait for one, or use skip."
    if verb is Verb.SKIP and trial.in_holdback and trial.holdback:
        return replace(target, trial=replace(trial, holdback=replace(trial.holdback, hold=timedelta()))), None
    return replace(target, trial=_moved(verb, trial, now)), None


def _moved(verb: Verb, trial: Trial, now: datetime) -> Trial:
    """The trial after promote, or after what ends a step: resume and skip."""
    if verb is Verb.PROMOTE:
        return replace(trial.at_step(len(trial.steps), now), forced=True)
    if trial.in_holdback and trial.holdback:
        return replace(trial, holdback=replace(trial.holdback, hold=timedelta()))
    return trial.at_step(min(trial.step + 1, len(trial.steps)), now)


def out_of_place(raw: str | None, records: tuple[Record, ...], target: Record | None) -> tuple[Record, ...]:
    """The record that a command names although the spec asks for another, with the token remembered as handled.

    Or the command would be carried out later, when the spec comes back to that revision and nobody expects it.
    """
    parsed = _PATTERN.fullmatch(raw.strip()) if raw else None
    return tuple(
        replace(record, handled=(*record.handled, parsed["token"])[-HANDLED_LIMIT:])
        for record in records
        if parsed
        and record.revision == parsed["revision"] != (target.revision if target else None)
        and parsed["token"] not in record.handled
    )


def was_handled(raw: str, records: tuple[Record, ...]) -> bool:
    """Whether the record that a command names has seen its token: then there is nothing to say about it any more."""
    parsed = _PATTERN.fullmatch(raw.strip())
    return parsed is not None and any(
        record.revision == parsed["revision"] and parsed["token"] in record.handled for record in records
    )


def names(raw: str | None, revision: str) -> bool:
    """Whether the command that stands is about this revision."""
    parsed = _PATTERN.fullmatch(raw.strip()) if raw else None
    return parsed is not None and parsed["revision"] == revision


def ignored(raw: str, why: str) -> CommandResult:
    """What is reported of a command that was not carried out."""
    return CommandResult(raw[:256], Reason.COMMAND_IGNORED, why)
