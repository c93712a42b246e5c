"""Fails if the end of an answer repeats itself, as models do that are stuck.

It fails if the answer ends with the same piece of at most 200 characters at least `times` times (and for at least 60
characters: a line of dashes or a number with zeros is no loop), or if its last 4,000 characters compress to less than
one part in `compressionRatio`.
"""

from __future__ import annotations

import zlib

from .answer import FAIL, PASS, SKIPPED, Choice, Judge, Parameters, number, refuse_unknown

LONGEST_PERIOD = 200
LEAST_REPEATED = 60
TAIL = 4000
TIMES, RATIO = 4, 12.0


def prepare(given: Parameters) -> Judge:
    """The check with these parameters.

    Raises:
        ValueError: they are not as documented.
    """
    refuse_unknown(given, ["times", "compressionRatio"])
    times = int(number(given.get("times", TIMES), "times", least=2, most=20, whole=True))
    ratio = number(given.get("compressionRatio", RATIO), "compressionRatio", least=2, most=1000)

    def judge(choice: Choice) -> str:
        if choice.is_cut:
            return SKIPPED
        tail = choice.text[-TAIL:]
        return FAIL if repeats(tail, times) or compression(tail) > ratio else PASS

    return judge


def repeats(text: str, times: int) -> bool:
    """Whether a text ends with the same piece so many times."""
    for period in range(1, min(LONGEST_PERIOD, len(text) // times) + 1):
        length = max(times * period, LEAST_REPEATED)
        # What is the same as itself one period earlier has that period.
        if length <= len(text) and text[-length:-period] == text[-length + period :]:
            return True
    return False


def compression(text: str) -> float:
    """How many times smaller a text becomes; 1.0 for a short one, which says nothing."""
    raw = text.encode("utf-8", "replace")
    return len(raw) / len(zlib.compress(raw, 1)) if len(raw) >= 4 * LEAST_REPEATED else 1.0
