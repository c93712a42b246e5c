"""Fails if an answer ended at the limit of its length: finish reason `length`, `max_tokens` or `max_output_tokens`."""

from __future__ import annotations

from .answer import AT_LIMIT, FAIL, FINISHED, PASS, SKIPPED, Choice, Judge, Parameters, refuse_unknown

_RESULTS = {AT_LIMIT: FAIL, FINISHED: PASS}


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented.
    """
    refuse_unknown(given)
    return judge


def judge(choice: Choice) -> str:
    """The result for one choice."""
    return _RESULTS.get(choice.finish, SKIPPED)
