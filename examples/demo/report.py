"""The results of the expectations, and the table at the end. Pure except for printing.

Called by scenes, which states the expectations, and by `__main__`. Not here: sending requests (load).
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


HEADER = ("STEP", "SENT", "AT THE CANARY", "HTTP ERRORS", "WRONG ANSWERS", "FIRST ERROR TO LAST REQUEST AT THE CANARY")


def table(rows: Sequence[Row]) -> str:
    """The table as text, with aligned columns and numbers on the right."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
