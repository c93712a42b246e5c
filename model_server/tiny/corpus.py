"""Training examples: training tickets with every instruction, in several wordings, and without an instruction.

Called by the tokenizer and by the training loop. Pure, standard library only. Not here: tickets and their expected
answers (tickets), and the conversion of messages to tokens (tokenizer).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from model_server.tiny.tickets import TEAMS, Split, Variant, expected, instruction, ticket

# Different wordings of the task; `instruction` uses the first one.
OPENINGS = ("Triage the ticket", "Triage this ticket", "You triage tickets", "Sort the ticket")
REWORDED_SHARE = 0.25
SILENT_SHARE = 0.1


@dataclass(frozen=True)
class Case:
    """A format, and perhaps a team. `variant` None means no system message; the answer is then in JSON."""

    variant: Variant | None
    team: str | None

    @property
    def label(self) -> str:
        """A short name for tables."""
        if self.variant is None:
            return "no instruction"
        return f"{self.variant}, team {self.team}" if self.team else str(self.variant)

    @property
    def answered_as(self) -> Variant:
        """The format of the answer."""
        return self.variant or Variant.JSON


CASES = (Case(None, None), *(Case(variant, team) for variant in Variant for team in (None, *TEAMS)))


@dataclass(frozen=True)
class Example:
    """One conversation: the input messages as (role, content), and the expected answer."""

    messages: tuple[tuple[str, str], ...]
    answer: str


def example(rng: random.Random, *, long: bool) -> Example:
    """A random training example; all choices come from `rng`."""
    case = CASES[0] if rng.random() < SILENT_SHARE else rng.choice(CASES[1:])
    drawn = ticket(rng, split=Split.TRAIN, long_share=1.0 if long else 0.0)
    messages = [("user", drawn.text)]
    if case.variant is not None:
        wording = instruction(case.variant, case.team)
        if rng.random() < REWORDED_SHARE:
            wording = wording.replace(OPENINGS[0], rng.choice(OPENINGS[1:]), 1)
        messages.insert(0, ("system", wording))
    return Example(tuple(messages), expected(drawn, case.answered_as, case.team))
