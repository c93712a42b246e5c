"""Fails if an answer contains none of `texts`; with `expect: Absent`, if it contains one."""

from __future__ import annotations

from .answer import (
    FAIL,
    NOT_ASKED,
    PASS,
    SKIPPED,
    Choice,
    Judge,
    Parameters,
    expects_presence,
    refuse_unknown,
    texts,
)

MOST, LONGEST = 16, 256


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented.
    """
    refuse_unknown(given, ["texts", "expect"])
    wanted = texts(given.get("texts"), "texts", most=MOST, longest=LONGEST)
    present = expects_presence(given.get("expect"))

    def judge(choice: Choice) -> str:
        return verdict(choice, found=any(each in choice.text for each in wanted), present=present)

    return judge


def verdict(choice: Choice, *, found: bool, present: bool) -> str:
    """The result, given whether what a check looks for was found, and whether it should be there."""
    if found:
        return PASS if present else FAIL
    if choice.only_calls:
        return NOT_ASKED
    if choice.is_cut:
        return SKIPPED
    return FAIL if present else PASS
