"""Fails if an answer has more than `maxChars` characters."""

from __future__ import annotations

from .answer import FAIL, PASS, Choice, Judge, Parameters, number, refuse_unknown

MOST = 10_000_000


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented.
    """
    refuse_unknown(given, ["maxChars"])
    most = number(given.get("maxChars"), "maxChars", least=1, most=MOST, whole=True)

    def judge(choice: Choice) -> str:
        return FAIL if choice.characters > most else PASS

    return judge
