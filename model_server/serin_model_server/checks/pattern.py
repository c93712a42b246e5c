"""Fails if a regular expression is found nowhere in an answer; with `expect: Absent`, if it is found.

The expressions are those of the package `regex`, which vLLM installs, because it can give up after a time.
"""

from __future__ import annotations

import regex

from .answer import SKIPPED, Choice, Judge, Parameters, expects_presence, refuse_unknown, texts
from .contains import verdict

LONGEST = 512
SECONDS = 0.25
"""Longest search; it ends with result `skipped`."""


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented, or the expression is not valid.
    """
    refuse_unknown(given, ["pattern", "expect"])
    (source,) = texts([given.get("pattern")], "pattern", most=1, longest=LONGEST)
    present = expects_presence(given.get("expect"))
    try:
        compiled = regex.compile(source)
    except regex.error as error:
        raise ValueError(f"its pattern is not valid: {error}") from error

    def judge(choice: Choice) -> str:
        try:
            found = compiled.search(choice.text, timeout=SECONDS) is not None
        except TimeoutError:
            return SKIPPED
        return verdict(choice, found=found, present=present)

    return judge
