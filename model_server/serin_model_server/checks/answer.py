"""What a check sees of an answer, and what it can result in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"
RESULTS = (PASS, FAIL, SKIPPED)
"""The values of the label `result`. `skipped`: the answer should have been checked, and could not be."""
NOT_ASKED = ""
"""The question does not apply to the answer (a schema to a mere tool call); nothing is counted."""

FINISHED, AT_LIMIT, UNKNOWN = "finished", "limit", "unknown"
"""Why a choice ended: by itself, at the limit of its length, or the response does not say."""


class Choice(NamedTuple):
    """One choice of an answer; an answer has several if `n` is above 1."""

    text: str
    """Its text, or the beginning of it."""
    characters: int
    """Length of the whole text."""
    called: bool
    """Whether it has a tool call."""
    finish: str

    @property
    def is_cut(self) -> bool:
        """Whether `text` is only the beginning."""
        return self.characters > len(self.text)

    @property
    def only_calls(self) -> bool:
        """Whether it has a tool call and no text."""
        return self.called and not self.text.strip()


Judge = Callable[[Choice], str]
"""The result of a check for one choice: one of RESULTS, or NOT_ASKED."""


def overall(results: Iterable[str]) -> str:
    """The result for an answer with these results of its choices: one choice that fails makes the answer fail."""
    found = set(results)
    return next((result for result in (FAIL, SKIPPED, PASS) if result in found), NOT_ASKED)


Parameters = dict[str, object]
"""The parameters of a check, by their names in the document."""


def refuse_unknown(given: Parameters, known: Iterable[str] = ()) -> None:
    """Check that there are no parameters but these.

    Raises:
        ValueError: there is another one.
    """
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise ValueError(f"it has an unknown parameter {unknown[0][:40]!a}")


def texts(value: object, name: str, *, most: int, longest: int) -> tuple[str, ...]:
    """A list of texts, as a parameter.

    Raises:
        ValueError: it is not 1 to `most` texts of 1 to `longest` characters.
    """
    given = value if isinstance(value, list) else []
    found = tuple(each for each in given if isinstance(each, str) and 1 <= len(each) <= longest)
    if not 1 <= len(found) <= most or len(found) != len(given):
        raise ValueError(f"its {name} are not 1 to {most} texts of 1 to {longest} characters")
    return found


def number(value: object, name: str, *, least: float, most: float, whole: bool = False) -> float:
    """A number, as a parameter.

    Raises:
        ValueError: it is not a number from `least` to `most`, or not a whole one.
    """
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        raise ValueError(f"its {name} is not a {'whole ' if whole else ''}number from {least:g} to {most:g}")
    return value


def expects_presence(value: object) -> bool:
    """Whether a check asks for something that must be there (`Present`, the default), or must not (`Absent`).

    Raises:
        ValueError: it is neither.
    """
    if value not in {None, "Present", "Absent"}:
        raise ValueError("its expect is neither Present nor Absent")
    return value != "Absent"
