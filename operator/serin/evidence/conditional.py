"""The exact conditional test with release, boost and cap: is the canary worse than the stable beside it?

Given all margins of a stratum, the canary's bad count is hypergeometric under H0 (Fisher's non-central one for a margin
above 1), whatever the base rate; random routing alone suffices. The mixture over `PSI` is an e-process, so
P(ever log E >= ln(1/alpha)) <= alpha (Ville). Sources: Wald 1945; Robbins 1970; Howard et al. arXiv 1810.08240;
Turner, Ly, Grünwald arXiv 2106.02693; Lindon & Malek arXiv 2011.03567; Fischer & Ramdas arXiv 2410.16076 (the boost).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.closed_form import increments
from serin.evidence.log_space import log_choose, log_sum
from serin.evidence.slices import LOG_PRIOR, NOTHING, PSI, Slice, Totals, together

RELEASE_SECONDS = 600
"""Of canary traffic: how often prior weight is released, so that a regression that begins late is still found."""
ACTIVE = 0.55
"""Share of the prior that tests from the start; the rest is frozen until a release."""
LARGEST_SUPPORT = 2_000
"""Beyond this many possible values the closed form takes the place of the exact law."""
HALVINGS = 50
LARGEST_BOOST = 700.0
"""Far above any that is fair; its exponential is still a number."""
MOST_OPEN = 32
"""Open strata at a time, one for each value that the epoch label can have; one more closes the oldest."""
STATE_VERSION = 2

_LOG_PSI = tuple(math.log(psi) for psi in PSI)


def young_seconds(answer_seconds: float, slice_seconds: float) -> float:
    """How long an epoch is young: until nine of ten answers have come, and every pod was scraped since.

    What is still missing then distorts a rate by a tenth at the most, which the margin of a metric allows. 0.0 where
    answers take less than a tenth of a slice, so that hardly a scrape could fall between the quick and the slow ones.

    Args:
        answer_seconds: what nine of ten of the stable's answers take; 0.0 where it has shown none.
        slice_seconds: between two scrapes of a pod.
    """
    return answer_seconds + slice_seconds if answer_seconds > slice_seconds / 10 else 0.0


@dataclass(frozen=True)
class Parameters:
    """Pinned when a trial starts."""

    alpha: float = 0.01
    """Probability of rolling back a canary that is no worse, at the most."""
    margin: float = 1.0
    """How many times worse the canary may be before it counts as worse."""
    cap: float | None = 0.5
    """The most that a single stratum may add, as a share of ln(1/alpha); None: no limit."""
    min_stratum: int = 3
    """Requests of each side that a stratum needs; what it looks at is never the bad ones."""

    def __post_init__(self) -> None:
        """Refuse parameters under which the test means nothing.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 < self.alpha < 1:
            raise ValueError("alpha is no probability; give a number between 0 and 1.")
        if not 1 <= self.margin < math.inf:
            raise ValueError("margin is below 1; give 1.0 or more.")
        if self.cap is not None and not 0 < self.cap < math.inf:
            raise ValueError("cap is not above 0; give a share such as 0.5, or null.")
        if self.min_stratum < 1:
            raise ValueError("min_stratum is below 1; give 1 or more.")


@dataclass
class ConditionalTest:
    """The running test; `state` is all that it remembers, bounded by `MOST_OPEN`."""

    parameters: Parameters = Parameters()
    active: list[float] = field(default_factory=lambda: [math.log(ACTIVE) + w for w in LOG_PRIOR])
    frozen: float = math.log(1 - ACTIVE)
    boosted: float = 0.0
    releases: int = 0
    open: dict[int, Totals] = field(default_factory=dict)
    rolled_back: bool = False
    closed: Slice = field(default=Slice(*NOTHING))
    """Totals over every stratum closed so far, also those that say nothing: all that `ramp` may look at."""

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.parameters.alpha)

    @property
    def log_e(self) -> float:
        """ln of the e-value so far."""
        return self.boosted + log_sum([*self.active, self.frozen])

    @property
    def evidence(self) -> float:
        """How strongly it speaks against the canary, 0..1 of what a rollback needs."""
        return min(1.0, max(0.0, self.log_e / self.threshold))

    def add(self, s: Slice, *, young: bool = False) -> None:
        """Take one slice into account; it joins the open stratum of its epoch.

        While an epoch is `young` the stratum stays open however large it is. Fast answers come before slow ones, and
        the pods of both sides are not scraped at one moment: cut there, a stratum would compare the failures of one
        side with the successes of the other. How old the epoch is depends on the clock, so the rule stays predictable.
        """
        if s.t is not None:
            self._release_until(s.t)
        pooled = together(self.open.pop(s.epoch, NOTHING), s.totals)
        if not young and min(pooled[0], pooled[2]) >= self.parameters.min_stratum:
            self._close(pooled)
        else:
            self.open[s.epoch] = pooled
            if len(self.open) > MOST_OPEN:
                self._close(self.open.pop(next(iter(self.open))))

    def close_epoch(self, epoch: int) -> None:
        """Close what is open of an epoch, because its value of the label is about to mean another period."""
        if epoch in self.open:
            self._close(self.open.pop(epoch))

    def _release_until(self, t: float) -> None:
        """All releases due before `t` in one step; a slice that ends exactly at a release comes before it."""
        due = math.ceil(t / RELEASE_SECONDS) - 1 - self.releases
        if due <= 0:
            return
        for epoch in sorted(self.open):
            self._close(self.open[epoch])
        self.open.clear()
        # Releasing w/(j+1) of what is frozen, again and again, telescopes: of F stays F (j+1)/(j+1+due).
        kept = (self.releases + 1) / (self.releases + 1 + due)
        released = self.frozen + math.log1p(-kept)
        self.active = [log_sum([log, released + w]) for log, w in zip(self.active, LOG_PRIOR, strict=True)]
        self.frozen += math.log(kept)
        self.releases += due

    def _close(self, stratum: Totals) -> None:
        n1, x1, n0, x0 = stratum
        bad = x1 + x0
        self.closed = Slice(*together(self.closed.totals, stratum))
        if self.rolled_back or not (n1 and n0 and bad) or bad == n1 + n0:
            return
        before = self.log_e
        lowest, highest = max(0, bad - n0), min(n1, bad)
        if highest - lowest >= LARGEST_SUPPORT:
            steps = increments(Slice(*stratum), self.parameters.margin)
        else:
            steps = self._exact(before, stratum, range(lowest, highest + 1))
        self.active = [log + step for log, step in zip(self.active, steps, strict=True)]
        if self.parameters.cap is not None:  # no single stratum decides alone
            self.boosted -= max(0.0, self.log_e - before - self.parameters.cap * self.threshold)
        self.rolled_back = self.log_e >= self.threshold - 1e-9

    def _exact(self, before: float, counts: Totals, support: range) -> tuple[float, ...]:
        """What the stratum adds to each alternative; adds the boost on the way."""
        n1, x1, n0, x0 = counts
        log_margin = math.log(self.parameters.margin)
        law = [log_choose(n1, j) + log_choose(n0, x1 + x0 - j) + j * log_margin for j in support]
        total = log_sum(law)
        law = [p - total for p in law]
        norms = [log_sum([p + j * psi for p, j in zip(law, support, strict=True)]) for psi in _LOG_PSI]
        if before < self.threshold:
            starts = [log - norm for log, norm in zip(self.active, norms, strict=True)]
            would_be = [
                self.boosted + log_sum([*(s + j * psi for s, psi in zip(starts, _LOG_PSI, strict=True)), self.frozen])
                for j in support
            ]
            self.boosted += self._boost(before, law, would_be)
        return tuple(x1 * psi - norm for psi, norm in zip(_LOG_PSI, norms, strict=True))

    def _boost(self, before: float, law: list[float], would_be: list[float]) -> float:
        """The largest constant that keeps the step fair although the e-value never needs to exceed its top."""
        cap, goal = self.parameters.cap, self.threshold
        top = goal if cap is None else min(goal, before + cap * goal)
        # exp(p + min(v + b, top)) is the smaller one of two numbers, of which only a factor changes with b. Their sum
        # is not taken by fsum: all are positive, and it is far slower where they differ by hundreds of magnitudes.
        free = [math.exp(p + v - before) for p, v in zip(law, would_be, strict=True)]
        capped = [math.exp(min(p + top - before, LARGEST_BOOST)) for p in law]
        low, high = 0.0, min(goal - before + 60, LARGEST_BOOST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            factor = math.exp(middle)
            mean = sum([min(f * factor, c) for f, c in zip(free, capped, strict=True)])
            if mean <= 1:
                low = middle
            else:
                high = middle
        return low

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON; `from_state` reads it back."""
        return {
            "version": STATE_VERSION,
            "active": list(self.active),
            "frozen": self.frozen,
            "boosted": self.boosted,
            "releases": self.releases,
            "open": {str(epoch): list(counts) for epoch, counts in sorted(self.open.items())},
            "rolledBack": self.rolled_back,
            "closed": list(self.closed.totals),
        }

    @classmethod
    def from_state(cls, parameters: Parameters, state: dict[str, Any]) -> ConditionalTest:
        """Go on where `state` was taken.

        Raises:
            ValueError: it is of another version, or damaged.
        """
        try:
            opened = {int(epoch): [int(n) for n in counts] for epoch, counts in state["open"].items()}
            active = [float(log) for log in state["active"]]
            n1, x1, n0, x0 = (int(n) for n in state["closed"])
            readable = state["version"] == STATE_VERSION and len(active) == len(PSI)
            test = cls(
                parameters=parameters,
                active=active,
                frozen=float(state["frozen"]),
                boosted=float(state["boosted"]),
                releases=int(state["releases"]),
                open={epoch: (a, b, c, d) for epoch, (a, b, c, d) in opened.items()},
                rolled_back=bool(state["rolledBack"]),
                closed=Slice(n1, x1, n0, x0),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The state of the evidence is damaged ({error}); start the trial anew.") from error
        if not readable:
            raise ValueError("The state of the evidence is of another version; start the trial anew.")
        return test
