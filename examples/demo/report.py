"""The results of the expectations, and the tables at the end. Pure except for printing.

Called by the scenes, which state the expectations, and by `__main__`. Not here: sending requests (load).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from examples.demo.say import Teller
from examples.load import Outcome, count


@dataclass
class Ledger:
    """All expectations and whether they held."""

    tell: Teller
    held: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def expect(self, sentence: str, held: bool, found: object = "") -> None:  # noqa: FBT001 - reads as a sentence
        """Record and print the result of one expectation; `found` is printed if it did not hold."""
        (self.held if held else self.broken).append(sentence)
        self.tell.say(f"   ok: {sentence}" if held else f"   FAILED: {sentence}. Found: {found}")


@dataclass(frozen=True)
class Row:
    """The requests of one step, a row of the table."""

    step: str
    outcomes: Sequence[Outcome]
    """Outcomes of the requests sent during the step."""
    canary: str | None = None
    """The revision on trial during the step."""

    @property
    def at_canary(self) -> Sequence[Outcome]:
        """Outcomes of the requests that the canary answered."""
        return [o for o in self.outcomes if self.canary and o.revision == self.canary]

    @property
    def exposure(self) -> float | None:
        """Seconds from the canary's first error to the last request sent to it; None without an error."""
        theirs = self.at_canary
        errors = [o.ended_at for o in theirs if o.failed]
        return max(0.0, max(o.sent_at for o in theirs) - min(errors)) if errors else None

    def cells(self) -> tuple[str, ...]:
        """The texts of the row's cells."""
        all_of, theirs = count(self.outcomes), count(self.at_canary)
        exposure = self.exposure
        return (
            self.step,
            str(all_of.sent),
            str(theirs.sent) if self.canary else "-",
            str(all_of.failed),
            str(all_of.wrong),
            "-" if exposure is None else f"{exposure:.0f} s",
        )


@dataclass(frozen=True)
class PromptRow:
    """What the trial of a prompt cost, a row of the second table."""

    row: Row
    applied_at: float
    """When `kubectl apply` began, in seconds since 1970."""
    extra_pods: int
    """Pods that were there during or after the trial, and not before."""
    restarts: int
    """Restarts of containers during the trial."""

    @property
    def first_answer(self) -> float | None:
        """Seconds from `kubectl apply` to the canary's first answer; None without one."""
        ended = [o.ended_at for o in self.row.at_canary if o.status == OK]
        return min(ended) - self.applied_at if ended else None

    @property
    def bad(self) -> Sequence[Outcome]:
        """The canary's answers that clients cannot parse."""
        return [o for o in self.row.at_canary if o.obeyed is False]

    @property
    def exposure(self) -> float | None:
        """Seconds from the canary's first bad answer to its last; None without one."""
        ended = [o.ended_at for o in self.bad]
        return max(ended) - min(ended) if ended else None

    def cells(self) -> tuple[str, ...]:
        """The texts of the row's cells."""
        first, exposure = self.first_answer, self.exposure
        return (
            self.row.step,
            str(self.extra_pods),
            str(self.restarts),
            "-" if first is None else f"{first:.1f} s",
            "-" if exposure is None else f"{exposure:.0f} s",
            str(len(self.bad)),
        )


OK = 200
HEADER = ("STEP", "SENT", "AT THE CANARY", "HTTP ERRORS", "WRONG ANSWERS", "FIRST ERROR TO LAST REQUEST AT THE CANARY")


PROMPT_HEADER = (
    "STEP",
    "EXTRA PODS",
    "RESTARTS",
    "APPLY TO FIRST ANSWER OF THE CANARY",
    "ITS FIRST BAD ANSWER TO ITS LAST",
    "BAD ANSWERS",
)


def table(rows: Sequence[Row] | Sequence[PromptRow], header: Sequence[str] = HEADER) -> str:
    """A table as text, with aligned columns and numbers on the right."""
    lines = [header, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
