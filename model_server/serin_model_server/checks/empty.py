"""Fails if an answer has neither text nor a tool call; white space is no text."""

from __future__ import annotations

from .answer import FAIL, PASS, SKIPPED, Choice, Judge, Parameters, refuse_unknown


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented.
    """
    refuse_unknown(given)
    return judge


def judge(choice: Choice) -> str:
    """The result for one choice."""
    if choice.called or choice.text.strip():
        return PASS
    return SKIPPED if choice.is_cut else FAIL
