"""What an outcome of the model server or a response code of the gateway says about a revision: one table for both.

Pure. Every answer that is counted is in the denominator of every comparison; the kinds say in which numerator. Called
by `serin.analysis.measurement` and `serin.analysis.update`. The model server has the same table for its statuses
(`serin_model_server.outcome`); a contract test compares the two.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What an answer says about the revision that gave it."""

    GOOD = "good"
    BAD = "bad"
    """The revision can cause it: the comparison `errors`."""
    EXCLUDED = "excluded"
    """A client, its quota or a wrong path causes it, unless it is more frequent at the canary: `excluded`."""
    LEFT = "left"
    """The client left. Clients choose that, so a difference only holds a canary."""


_OUTCOMES = {
    "ok": Kind.GOOD,
    "excluded": Kind.EXCLUDED,
    "left": Kind.LEFT,
    **dict.fromkeys(("server_error", "rejected", "stream_error", "aborted", "timed_out"), Kind.BAD),
}
_BAD_CODES = frozenset({"400", "413", "422"})
"""Client errors that a bad revision causes: its context is too short, a limit too low, or it rejects a parameter."""
_LEFT_CODES = frozenset({"408", "499"})
_BY_FIRST_DIGIT = {"1": Kind.GOOD, "2": Kind.GOOD, "3": Kind.EXCLUDED, "4": Kind.EXCLUDED, "5": Kind.BAD}


def kind_of_outcome(outcome: str) -> Kind:
    """The kind of an outcome of the model server; one that only a newer model server knows is good."""
    return _OUTCOMES.get(outcome, Kind.GOOD)


def kind_of_code(code: str) -> Kind | None:
    """The kind of a response code; None for what is no response code, such as Envoy's `0` for no response."""
    if not (len(code) == 3 and code.isascii() and code.isdecimal()):
        return None
    if code in _BAD_CODES:
        return Kind.BAD
    return Kind.LEFT if code in _LEFT_CODES else _BY_FIRST_DIGIT.get(code[0])


def counted_before(value: str, *, code: bool) -> bool | None:
    """How version 0.1 counted a value: bad, good, or None for neither. Trials that it began go on like that."""
    if not code:
        kind = kind_of_outcome(value)
        return None if kind in {Kind.EXCLUDED, Kind.LEFT} else kind is Kind.BAD
    if value in {"401", "403", "404", "408", "429", "499"} or not (len(value) == 3 and value.isdecimal()):
        return None
    return value.startswith("5") or value in _BAD_CODES
