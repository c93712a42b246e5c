"""Whether clients leave one side more often than the other: two tests in closed form, one in each direction. Pure.

Clients choose when they leave, and may choose it by the revision. A difference therefore only holds a canary: counted
as bad it would let a client reject a good canary, counted as good promote a bad one. Called by `serin.analysis.update`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from serin.evidence.closed_form import ClosedForm
from serin.evidence.slices import NOTHING, Totals

RATIO, ABSOLUTE = 1.5, 0.01
"""The share of one side may be this many times that of the other, plus this."""
BEYOND_DOUBT = math.log(1000)
PERIOD_SECONDS = 60.0
"""Requests of this time are one slice: those that end soon after a change of weight are mixed with slow ones."""

_NEW = ClosedForm(RATIO, ABSOLUTE)


@dataclass(frozen=True)
class LeftTest:
    """The running tests; the counts of a period are added when it is over."""

    more: ClosedForm = _NEW
    """Against: the canary's share is no higher."""
    fewer: ClosedForm = _NEW
    """Against: the stable's share is no higher."""
    totals: Totals = NOTHING
    """All counts; bad are requests whose client left."""
    since: float = 0.0
    """Begin of the current period, in seconds since the canary's first traffic."""
    period: Totals = NOTHING

    @property
    def differs(self) -> bool:
        """Whether the shares differ beyond doubt."""
        return max(self.more.log_e, self.fewer.log_e) >= BEYOND_DOUBT

    def add(self, counts: Totals, t: float) -> LeftTest:
        """The tests with the counts of one interval that ends at `t`."""
        test = replace(self, totals=self.totals + counts, period=self.period + counts)
        if t - self.since < PERIOD_SECONDS or not (test.period.n1 and test.period.n0):
            return test
        p = test.period
        more, fewer = self.more.add(p), self.fewer.add(Totals(p.n0, p.x0, p.n1, p.x1))
        return replace(test, more=_from_one(more), fewer=_from_one(fewer), since=t, period=NOTHING)


def _from_one(test: ClosedForm) -> ClosedForm:
    """The test, or a new one if its evidence is below 1: a difference that begins late is found as soon."""
    return test if test.log_e > 0 else _NEW


NOBODY_LEFT = LeftTest()
"""The tests before the first request."""
