"""The exact conditional test of canary against stable, with release, boost and cap.

Given all margins of a stratum, the canary's bad count is hypergeometric under H0 (Fisher's non-central hypergeometric
for a margin above 1), whatever the base rate is; the only assumption is random routing. The mixture over `PSI` is an
e-process, so P(ever log E >= ln(1/alpha)) <= alpha (Ville). Sources: Wald 1945; Robbins 1970; Howard et al.
arXiv 1810.08240; Turner, Ly, Grünwald arXiv 2106.02693; Lindon & Malek arXiv 2011.03567; Fischer & Ramdas
arXiv 2410.16076 (the boost). Specification: docs/reference/decision-engine.md, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from serin.evidence import stored
from serin.evidence.closed_form import increments
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.log_space import log_choose, log_sum
from serin.evidence.slices import LOG_PRIOR, NOTHING, PSI, Counts, Slice, Totals

RELEASE_SECONDS = 600
"""Seconds of canary traffic between two releases of prior weight, so that a regression that begins late is found."""
ACTIVE = 0.55
"""Share of the prior that is active from the start; the rest is frozen until a release."""
LARGEST_SUPPORT = 2_000
"""Largest number of possible bad counts for the exact law; larger strata use the closed form."""
HALVINGS = 50
"""Steps of the bisection that finds the boost."""
LARGEST_BOOST = 700.0
"""Upper limit of the boost: far above any fair boost, but its exponential is still finite."""
MOST_OPEN = 32
"""Largest number of open strata, one per value of the epoch label; one more closes the oldest."""
MOST_STRATA = 256
"""Largest number of open strata where an epoch has several; live epochs are about three, each with up to 40."""
SURE = 2.0
"""Standard errors that are added to the stable's estimated rate where a limit on rates becomes one on odds."""
LARGEST_RATE = 0.95
"""Largest rate that the canary may have by a limit on rates; at 1 no odds would be too high."""
STATE_VERSION = 2

_LOG_PSI = tuple(math.log(psi) for psi in PSI)


def young_seconds(answer_seconds: float, slice_seconds: float) -> float:
    """How many seconds an epoch is young: until 90 % of its first answers are complete and every pod was scraped again.

    The answers that are still missing then distort a rate by at most a tenth, which the margin of a metric allows. The
    result is 0.0 if answers take less than a tenth of a slice: then a scrape hardly ever falls between fast and slow
    answers.

    Args:
        answer_seconds: 90 % quantile of the durations of the stable's answers; 0.0 without any.
        slice_seconds: seconds between two scrapes of a pod.
    """
    return answer_seconds + slice_seconds if answer_seconds > slice_seconds / 10 else 0.0


def _upper(counts: Counts, errors: float) -> float:
    """The rate of bad requests plus some standard errors, 0 to 1 (Wilson); 0.0 without requests."""
    n, x, square = counts.requests, counts.bad, errors * errors
    if not n:
        return 0.0
    return min(1.0, (x + square / 2 + errors * math.sqrt(x * (n - x) / n + square / 4)) / (n + square))


@dataclass(frozen=True)
class Parameters:
    """Parameters of the test, pinned when a trial starts."""

    alpha: float = 0.01
    """Upper limit on the probability of rolling back a canary that is no worse."""
    margin: float = 1.0
    """How many times worse the canary may be before it counts as worse: a factor on the odds of a bad answer, or on its
    rate with `of_rates`."""
    cap: float | None = 0.5
    """The most that a single stratum can add to log E, as a share of ln(1/alpha); None: no limit."""
    min_stratum: int = 3
    """Requests that a stratum needs on each side; bad requests are never considered."""
    of_rates: bool = False
    """Whether `margin` limits the ratio of the rates; else that of the odds, which is the stricter limit."""
    most_open: int = MOST_OPEN
    """Largest number of open strata; one more closes the oldest."""
    stratum_seconds: float = 0.0
    """How old a stratum must be before it closes, so that a client's burst of requests is in one stratum; 0: any age.
    """

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: one of them is out of range.
        """
        if not 0 < self.alpha < 1:
            raise ValueError("alpha must be a probability above 0 and below 1; give one.")
        if not 1 <= self.margin < math.inf:
            raise ValueError("margin must be a finite number, 1.0 or more; give one.")
        if self.cap is not None and not 0 < self.cap < math.inf:
            raise ValueError("cap must be a finite number above 0, or null; give a share such as 0.5.")
        if self.min_stratum < 1:
            raise ValueError("min_stratum must be 1 or more; give a whole number.")
        if self.most_open < 1:
            raise ValueError("most_open must be 1 or more; give a whole number.")
        if not 0 <= self.stratum_seconds < math.inf:
            raise ValueError("stratum_seconds must be a finite number of seconds, 0 or more; give one.")


@dataclass(frozen=True)
class ConditionalTest:
    """The running test. `state` contains everything it needs to continue; its size is bounded by `most_open`."""

    parameters: Parameters = Parameters()
    active: tuple[float, ...] = tuple([math.log(ACTIVE) + w for w in LOG_PRIOR])
    """By alternative, ln of its weighted e-value without boost: A_k of the specification."""
    frozen: float = math.log(1 - ACTIVE)
    """ln of the frozen prior weight: F."""
    boosted: float = 0.0
    """Sum of the boosts, minus what the cap took away: C."""
    releases: int = 0
    """Number of releases so far: j."""
    open: FrozenMap[int, Totals] = EMPTY
    """Open strata, by epoch; the one that grew last is the last one."""
    opened: FrozenMap[int, float] = EMPTY
    """When those strata began, in seconds since the canary's first traffic; only where `stratum_seconds` asks."""
    rolled_back: bool = False
    """Whether log E has reached ln(1/alpha); stays true."""
    closed: Totals = NOTHING
    """Totals over all closed strata, also of those that carry no information: the only input of `ramp`."""

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return -math.log(self.parameters.alpha)

    @property
    def log_e(self) -> float:
        """ln of the e-value against the canary: log E."""
        return self.boosted + log_sum([*self.active, self.frozen])

    @property
    def log_e_if_closed(self) -> float:
        """What log E would be if each open stratum had all its requests.

        A reason to wait, never one to roll back: the first requests of a stratum are not a fair sample of it.
        """
        test = self
        for epoch in sorted(self.open):
            test = test.close(test.open[epoch], test.open.without(epoch))
        return test.log_e

    @property
    def evidence(self) -> float:
        """The evidence against the canary: log E as a share of what a rollback needs, 0 to 1."""
        return min(1.0, max(0.0, self.log_e / self.threshold))

    def add(self, s: Slice, *, young: bool = False) -> ConditionalTest:
        """The test with one more slice in the open stratum of its epoch, which closes if it is large enough.

        While an epoch is `young`, its stratum stays open, however large it is. Fast answers arrive before slow ones,
        and the pods of both sides are not scraped at the same time. A stratum that ended there would compare fast
        failures on one side with slow successes on the other. The age of an epoch depends only on the clock, so the
        strata stay predictable.
        """
        test = self if s.t is None else self._release_until(s.t)
        stratum = test.open.get(s.epoch, NOTHING) + s
        if self.parameters.stratum_seconds and s.t is not None:
            opened = test.opened.get(s.epoch, s.t) if s.epoch in test.open else s.t
            young |= s.t - opened < self.parameters.stratum_seconds
            known = {epoch: began for epoch, began in test.opened.items() if epoch in test.open}
            test = replace(test, opened=FrozenMap(known | {s.epoch: opened}))
        if not young and min(stratum.n1, stratum.n0) >= self.parameters.min_stratum:
            return test.close(stratum, test.open.without(s.epoch))
        still_open = test.open.put(s.epoch, stratum)
        if len(still_open) > self.parameters.most_open:
            oldest = next(iter(still_open))
            return test.close(still_open[oldest], still_open.without(oldest))
        return replace(test, open=still_open)

    def close_epoch(self, epoch: int) -> ConditionalTest:
        """The test without an open stratum of the epoch; to be called before its value of the label is reused."""
        return self.close(self.open[epoch], self.open.without(epoch)) if epoch in self.open else self

    def _release_until(self, t: float) -> ConditionalTest:
        """Do all releases that are due before `t` in one step; a slice that ends exactly at a release precedes it."""
        due = math.ceil(t / RELEASE_SECONDS) - 1 - self.releases
        if due <= 0:
            return self
        test = self
        for epoch in sorted(self.open):
            test = test.close(self.open[epoch], EMPTY)
        # Each release frees the share 1/(j+1) of the frozen weight. The product over `due` releases telescopes.
        remaining = (self.releases + 1) / (self.releases + 1 + due)
        released = test.frozen + math.log1p(-remaining)
        return replace(
            test,
            active=tuple([log_sum([log, released + w]) for log, w in zip(test.active, LOG_PRIOR, strict=True)]),
            frozen=test.frozen + math.log(remaining),
            releases=self.releases + due,
        )

    def close(self, stratum: Totals, still_open: FrozenMap[int, Totals]) -> ConditionalTest:
        """The test with a stratum that is complete, and with the strata that are still open."""
        n1, n0, bad = stratum.n1, stratum.n0, stratum.x1 + stratum.x0
        closed = self.closed + stratum
        if self.rolled_back or not (n1 and n0 and bad) or bad == n1 + n0:
            return replace(self, open=still_open, closed=closed)
        before = self.log_e
        lowest, highest = max(0, bad - n0), min(n1, bad)
        if highest - lowest >= LARGEST_SUPPORT:
            # The closed form compares rates, so it needs no margin of odds.
            steps, boosted = increments(stratum, self.parameters.margin), self.boosted
        else:
            margin = self._margin_of_odds(stratum) if self.parameters.of_rates else self.parameters.margin
            steps, boosted = self._exact(before, stratum, range(lowest, highest + 1), margin)
        active = tuple([log + step for log, step in zip(self.active, steps, strict=True)])
        mixture = log_sum([*active, self.frozen])
        if self.parameters.cap is not None:  # no single stratum decides alone
            boosted -= max(0.0, boosted + mixture - before - self.parameters.cap * self.threshold)
        return replace(
            self,
            active=active,
            boosted=boosted,
            open=still_open,
            rolled_back=boosted + mixture >= self.threshold - 1e-9,
            closed=closed,
        )

    def _margin_of_odds(self, stratum: Totals) -> float:
        """The largest ratio of odds at which the canary's rate is still at most `margin` times the stable's.

        With rates p and m p the odds differ by m (1 - p) / (1 - m p), which grows with p. For p, the larger one counts
        of the stable's rate in earlier strata, plus an error, and of both sides' rate in this stratum. The first is
        past, and the second is a function of the sum that the law takes as given; so both are fixed before the test
        learns which side the bad requests are from.
        """
        margin = self.parameters.margin
        rate = max(_upper(self.closed.stable, SURE), _upper(stratum.canary + stratum.stable, 0.0))
        rate = min(rate, LARGEST_RATE / margin)
        return margin * (1 - rate) / (1 - margin * rate)

    def _exact(self, before: float, stratum: Totals, support: range, margin: float) -> tuple[tuple[float, ...], float]:
        """What the stratum adds to each alternative, and `boosted` after it."""
        n1, n0, bad = stratum.n1, stratum.n0, stratum.x1 + stratum.x0
        log_margin, boosted = math.log(margin), self.boosted
        law = [log_choose(n1, j) + log_choose(n0, bad - j) + j * log_margin for j in support]
        total = log_sum(law)
        law = [p - total for p in law]
        norms = [log_sum([p + j * psi for p, j in zip(law, support, strict=True)]) for psi in _LOG_PSI]
        if before < self.threshold:
            starts = [log - norm for log, norm in zip(self.active, norms, strict=True)]
            outcomes = [
                boosted + log_sum([*(s + j * psi for s, psi in zip(starts, _LOG_PSI, strict=True)), self.frozen])
                for j in support
            ]
            boosted += self._boost(before, law, outcomes)
        return tuple([stratum.x1 * psi - norm for psi, norm in zip(_LOG_PSI, norms, strict=True)]), boosted

    def _boost(self, before: float, law: list[float], outcomes: list[float]) -> float:
        """The largest constant b for which the step stays fair if log E is cut off at its upper limit `top`.

        Args:
            before: log E before the stratum.
            law: ln of the probability of each possible bad count of the canary under H0.
            outcomes: log E after the stratum without boost, for each possible bad count.
        """
        cap, goal = self.parameters.cap, self.threshold
        top = goal if cap is None else min(goal, before + cap * goal)
        # exp(p + min(v + b, top)) is the smaller of two numbers, and b changes only a factor of one of them. Not fsum:
        # all terms are positive, and fsum is far slower if they differ by hundreds of orders of magnitude.
        free = [math.exp(p + v - before) for p, v in zip(law, outcomes, strict=True)]
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
        """The state of the test, for JSON; `from_state` restores it."""
        return {
            "version": STATE_VERSION,
            "active": list(self.active),
            "frozen": self.frozen,
            "boosted": self.boosted,
            "releases": self.releases,
            "open": {str(epoch): stored.written(totals) for epoch, totals in sorted(self.open.items())},
            "rolledBack": self.rolled_back,
            "closed": stored.written(self.closed),
            **({"opened": {str(epoch): t for epoch, t in sorted(self.opened.items())}} if self.opened else {}),
        }

    @classmethod
    def from_state(cls, parameters: Parameters, state: dict[str, Any]) -> ConditionalTest:
        """A test that continues from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        try:
            test = cls(
                parameters=parameters,
                active=stored.logs(state["active"], like=PSI),
                frozen=stored.finite(state["frozen"]),
                boosted=stored.finite(state["boosted"]),
                releases=stored.whole(state["releases"]),
                open=stored.totals_by_epoch(state["open"], parameters.most_open),
                rolled_back=stored.flag(state["rolledBack"]),
                closed=stored.totals(state["closed"]),
                opened=FrozenMap(
                    {
                        int(e): stored.finite(t)
                        for e, t in stored.bounded(state.get("opened", {}), parameters.most_open + 1).items()
                    }
                ),
            )
            readable = state["version"] == STATE_VERSION
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The stored state of the test is damaged: {error}.") from error
        if not readable:
            raise ValueError("The stored state of the test has another version.")
        return test
