"""What all tests are fed: counts of one side, totals of both sides, and slices of time; and the alternatives.

A count keeps these types from the measurement (`serin.analysis.measurement`) to the verdict. `n1`, `x1`, `n0` and `x0`
are the names of docs/reference/decision-engine.md, sections 1 and 2: n for requests, x for bad ones, 1 for the canary
and 0 for the stable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PSI = (1.5, 2.5, 5.0, 12.0, 40.0)
"""The alternatives: how many times worse than allowed the canary is. The tests use a mixture of these."""
PRIOR = (0.40, 0.25, 0.15, 0.10, 0.10)
"""Weight of each alternative in the mixture; the sum is 1."""
LOG_PRIOR = tuple(math.log(w) for w in PRIOR)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of one side or of one process, and the bad ones among them.

    A separate counter of bad requests can be scraped before the requests themselves; then `bad` is larger.
    """

    requests: int = 0
    bad: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.requests + other.requests, self.bad + other.bad)


@dataclass(frozen=True, slots=True)
class RequestsBySide:
    """A number of requests of each side, where good and bad are not distinguished."""

    canary: int = 0
    stable: int = 0

    def __add__(self, other: RequestsBySide) -> RequestsBySide:
        return RequestsBySide(self.canary + other.canary, self.stable + other.stable)

    @property
    def both(self) -> int:
        """Requests of canary and stable."""
        return self.canary + self.stable


NO_REQUESTS = RequestsBySide()
"""No requests on either side."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests (n) and bad requests (x) of canary (1) and stable (0)."""

    n1: int = 0
    x1: int = 0
    n0: int = 0
    x0: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.n1 + other.n1, self.x1 + other.x1, self.n0 + other.n0, self.x0 + other.x0)

    @property
    def canary(self) -> Counts:
        """The canary's counts."""
        return Counts(self.n1, self.x1)

    @property
    def stable(self) -> Counts:
        """The stable's counts."""
        return Counts(self.n0, self.x0)

    @property
    def requests(self) -> int:
        """Requests of both sides."""
        return self.n1 + self.n0


RING = 32
"""Number of values of the epoch label."""


def stratum(epoch: int, cell: int) -> int:
    """The key of the requests of an epoch that may be compared with each other; cell 0: all of the epoch."""
    return epoch + RING * cell


def epoch_of(key: int) -> int:
    """The epoch of a stratum's key."""
    return key % RING


def cell_of(key: int) -> int:
    """The cell of a stratum's key: which of the epoch's requests are in it."""
    return key // RING


NOTHING = Totals()
"""No requests on either side."""


@dataclass(frozen=True, slots=True)
class Slice(Totals):
    """Totals of the requests that finished in one interval, all of them from one epoch: a period of constant weight."""

    t: float | None = None
    """End of the interval in seconds since the canary's first traffic; None if time does not matter."""
    epoch: int = 0
    """The epoch, or the key of a stratum of it (`stratum`)."""

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            ValueError: a count is negative, there are more bad requests than requests, or `t` is no valid time.
        """
        if min(self.n1, self.x1, self.n0, self.x0) < 0:
            raise ValueError("A count is negative; n1, x1, n0 and x0 must be 0 or more.")
        if self.x1 > self.n1 or self.x0 > self.n0:
            raise ValueError("There are more bad requests than requests; x1 must be at most n1, and x0 at most n0.")
        if self.t is not None and not 0 <= self.t < float("inf"):
            raise ValueError("t must be a finite number of seconds since the canary's first traffic, 0 or more.")
