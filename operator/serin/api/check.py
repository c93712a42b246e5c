"""`spec.analysis.metrics[].check`: a yes/no question about each answer, asked inside the engine's pods.

The pods get the checks in their split document (`serin.analysis.pod_checks`) and count the answers that pass and fail.
The model server has the same kinds and limits (`serin_model_server.checks`); a contract test compares the two.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from serin.api.base import ApiModel
from serin.api.rule import Rule


class CheckKind(StrEnum):
    """When an answer fails."""

    SCHEMA = "Schema"
    """It is not JSON that satisfies `outputSchema` of its own revision's PromptVersion. Tool calls are not judged."""
    EMPTY = "Empty"
    """It has neither text nor a tool call."""
    TRUNCATED = "Truncated"
    """It ended at the limit of its length."""
    REPETITION = "Repetition"
    """Its end repeats itself."""
    REFUSAL = "Refusal"
    """It begins like a refusal."""
    REGEX = "Regex"
    """`pattern` is not found in it, or is with `expect: Absent`."""
    CONTAINS = "Contains"
    """It contains none of `texts`, or one with `expect: Absent`."""
    MAX_CHARS = "MaxChars"
    """It has more than `maxChars` characters."""


class Expect(StrEnum):
    """What must be so of what a check looks for."""

    PRESENT = "Present"
    ABSENT = "Absent"


Pattern = Annotated[str, Field(min_length=1, max_length=256)]
_OF_KIND = {
    CheckKind.REGEX: ("pattern",),
    CheckKind.CONTAINS: ("texts",),
    CheckKind.MAX_CHARS: ("max_chars",),
}
"""The parameters that a kind needs; no other kind has them."""


def _has_exactly_what_it_needs(check: Check) -> bool:
    needed = _OF_KIND.get(check.kind, ())
    names = {name for names in _OF_KIND.values() for name in names}
    return all((getattr(check, name) is not None) == (name in needed) for name in names)


class Check(ApiModel):
    """A yes/no question about each answer that ends with status 200 and complete; its metric is the share that fails.

    Answers that cannot be judged in bounded time and memory are counted as skipped and are not in that share.
    """

    RULES = (
        Rule(
            cel="has(self.pattern) == (self.kind == 'Regex') && has(self.texts) == (self.kind == 'Contains') && "
            "has(self.maxChars) == (self.kind == 'MaxChars')",
            message="Set pattern for Regex, texts for Contains and maxChars for MaxChars, and for no other kind.",
            holds=_has_exactly_what_it_needs,
        ),
        Rule(
            cel="!has(self.expect) || self.kind in ['Regex', 'Contains']",
            message="Remove expect; only Regex and Contains have it.",
            holds=lambda check: check.expect is None or check.kind in {CheckKind.REGEX, CheckKind.CONTAINS},
        ),
        Rule(
            cel="!has(self.patterns) || self.kind == 'Refusal'",
            message="Remove patterns; only Refusal has them.",
            holds=lambda check: check.patterns is None or check.kind is CheckKind.REFUSAL,
        ),
        Rule(
            cel="(!has(self.times) && !has(self.compressionRatio)) || self.kind == 'Repetition'",
            message="Remove times and compressionRatio; only Repetition has them.",
            holds=lambda check: (
                (check.times is None and check.compression_ratio is None) or check.kind is CheckKind.REPETITION
            ),
        ),
    )

    kind: CheckKind
    """`Schema`: the answer is not JSON that satisfies outputSchema of its revision's PromptVersion. `Empty`: it has
    neither text nor a tool call. `Truncated`: it ended at the limit of its length. `Repetition`: its end repeats
    itself. `Refusal`: it begins like a refusal. `Regex`, `Contains`, `MaxChars`: a rule of your own."""
    sample: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of the answers that is checked. Default: 1, all of them."""
    pattern: Annotated[str | None, Field(min_length=1, max_length=512)] = None
    """For Regex: a regular expression of Python that answers must match somewhere. A search that takes long is
    skipped."""
    texts: Annotated[list[Pattern] | None, Field(min_length=1, max_length=16)] = None
    """For Contains: texts of which an answer must contain at least one."""
    expect: Expect | None = None
    """For Regex and Contains: `Absent` turns the question around; an answer then fails if the pattern or one of the
    texts is found. Default: Present."""
    max_chars: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    """For MaxChars: most characters of an answer."""
    patterns: Annotated[list[Pattern] | None, Field(min_length=1, max_length=16)] = None
    """For Refusal: regular expressions of Python, of which none may match in the first 200 characters; upper and lower
    case are the same. Default: a short list of English phrases, which knows neither other languages nor all ways to
    refuse."""
    times: Annotated[int | None, Field(ge=2, le=20)] = None
    """For Repetition: an answer fails if it ends with the same piece of at most 200 characters so many times, for at
    least 60 characters. Default: 4."""
    compression_ratio: Annotated[float | None, Field(ge=2, le=1000)] = None
    """For Repetition: an answer also fails if its last 4000 characters can be compressed by more than this factor.
    Default: 12."""

    @model_validator(mode="after")
    def _patterns_are_valid(self) -> Self:
        for pattern in (*((self.pattern,) if self.pattern else ()), *(self.patterns or ())):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"Correct the regular expression {pattern[:80]!r}: {error}.") from error
        return self

    def entry(self, name: str) -> dict[str, Any]:
        """The check as a split document lists it."""
        return {"name": name, **self.model_dump(mode="json", by_alias=True, exclude_none=True)}
