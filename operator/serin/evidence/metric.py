"""The running tests of one metric: one per boundary of a histogram, or one for a ratio or a ceiling.

The tests share the metric's alpha equally. The operator stores `state` as JSON and continues with `from_state`. Nothing
changes in place: `add` and its like return new tests. Not here: which counts feed a metric
(`serin.analysis.measurement`), and the verdict over several metrics (`serin.analysis.verdict`). Specification:
docs/reference/decision-engine.md, section 5.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from serin.evidence import stored
from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import MOST_OPEN, MOST_STRATA, ConditionalTest, Parameters
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.no_slower import NoSlower
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import NOTHING, RING, Counts, RequestsBySide, Slice, Totals, epoch_of

OVERLAP = 0.2
"""Least share of the canary's requests that must have a counterpart at equal load; with less, nothing is proven."""
OVERLAP_FROM = 100
"""Requests of the canary from which on that share says something."""


class MarginOf(StrEnum):
    """What margin and tolerance are factors of."""

    RATES = "rates"
    """Both of the bad rate: ratios, and histograms whatever the load was."""
    TIMES = "times"
    """Both of the latency: the canary's requests are counted above the boundary times the factor."""


@dataclass(frozen=True)
class MetricParameters:
    """Parameters of one metric's tests; pinned when a trial starts."""

    alpha: float
    """This metric's share of the probability of a wrong rollback; a histogram's boundaries share it equally."""
    margin: float
    """How many times the stable's bad rate the canary's may be before it counts as worse."""
    ratio: float
    """Tolerance of the proof: at most this many times the stable's bad rate, or this many times as slow ..."""
    absolute: float
    """... plus this rate, 0 to 1."""
    boundaries: tuple[float, ...] = ()
    """Boundaries of a histogram, in the metric's unit; empty for a ratio."""
    ceiling: float | None = None
    """An absolute limit on the canary's bad rate, 0 to 1; None for a comparison."""
    margin_of: MarginOf = MarginOf.RATES
    stratum_seconds: float = 0.0
    """See `serin.evidence.conditional.Parameters`."""

    @property
    def test(self) -> Parameters:
        """The parameters of the test of each leaf."""
        alpha = self.alpha / self.leaves
        match self.margin_of:
            case MarginOf.RATES:
                return Parameters(alpha=alpha, margin=self.margin, of_rates=True, stratum_seconds=self.stratum_seconds)
            case MarginOf.TIMES:
                return Parameters(alpha=alpha, most_open=MOST_STRATA)

    @property
    def proof(self) -> NonInferiority | NoSlower:
        """The proof of each leaf before the first request."""
        if self.margin_of is MarginOf.TIMES:
            return NoSlower.begin(self.absolute)
        return NonInferiority(rho=self.ratio, delta=self.absolute)

    @property
    def leaves(self) -> int:
        """Number of tests."""
        return max(1, len(self.boundaries))


@dataclass(frozen=True)
class Comparison:
    """Canary against stable for one kind of bad request: the test that can roll back, and the proof."""

    test: ConditionalTest
    proof: NonInferiority | NoSlower
    pools: FrozenMap[int, Totals] = EMPTY
    """By stratum, settled slices that are not in the proof yet; a pool is full if both sides have enough requests.

    The pods of both sides are not scraped at the same time, so one side's part of a pool can come an interval later.
    """
    compared: int = 0
    """Requests of the canary that the proof has compared with requests of the stable."""
    left_out: int = 0
    """Requests of the canary that had no counterpart in their stratum until it was closed."""

    @property
    def overlap(self) -> float:
        """The share of the canary's requests that had a counterpart; 1.0 while there are too few to say."""
        lonely = self.left_out + sum(pool.n1 for pool in self.pools.values() if not self._full(pool))
        settled = self.compared + lonely
        return self.compared / settled if settled >= OVERLAP_FROM else 1.0

    @property
    def threshold(self) -> float:
        """ln(1/alpha)."""
        return self.test.threshold

    @property
    def log_e(self) -> float:
        """ln of the evidence against the canary."""
        return self.test.log_e

    @property
    def rolled_back(self) -> bool:
        """Whether the evidence has ever been enough for a rollback."""
        return self.test.rolled_back

    def standing(self, carried_over: int) -> NonInferiority | NoSlower:
        """The proof as of now: the canary's requests in pools that are not full count without stable requests.

        Failures that take longer than any answer of the stable, such as time-outs, end when their epoch is over and
        the stable has no more requests in it. If the proof waited for a full pool, it would never contain them.

        Args:
            carried_over: bad requests of the canary that are not counted yet; see `MetricTests.carried_over`.
        """
        partial = sum([pool.canary for pool in self.pools.values() if not self._full(pool)], Counts(0, carried_over))
        return self.proof.add_canary_alone(partial)

    def proven(self, carried_over: int) -> bool:
        """Whether the canary is proven to be no worse than the tolerance, now."""
        return self.standing(carried_over).proven

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> Comparison:
        """The test with one more slice, and if it is settled the proof as well."""
        tested = replace(self, test=self.test.add(s, young=young))
        return tested.pool(s, s.epoch) if settled else tested

    def nothing_ended(self, but: Container[int]) -> Comparison:
        """With full pools in the proof, except those of the epochs `but`, whose requests finished in this interval."""
        comparison = self
        for epoch in [epoch for epoch, pool in self.pools.items() if epoch not in but and self._full(pool)]:
            comparison = comparison.pool(NOTHING, epoch)
        return comparison

    def pool(self, more: Totals, epoch: int) -> Comparison:
        """Add totals to the pool of a stratum, and put the pool into the proof one interval after it became full.

        The last interval brings the rest of the side that is scraped later. The rule depends on n, never on x, as for
        strata. There are at most as many pools as the test may have open strata; one more closes the oldest.
        """
        pool, others = self.pools.get(epoch, NOTHING), self.pools.without(epoch)
        both = pool + more
        if not self._full(pool):
            if both == NOTHING:
                return replace(self, pools=others)
            pools = others.put(epoch, both)
            if len(pools) <= self.test.parameters.most_open:
                return replace(self, pools=pools)
            oldest = next(iter(pools))
            return self._without_pool(oldest, pools, Counts())
        if self._full(more):
            return self._compared(pool, others.put(epoch, NOTHING + more))
        return self._compared(both, others)

    def _compared(self, pool: Totals, pools: FrozenMap[int, Totals]) -> Comparison:
        return replace(self, proof=self.proof.add(pool), pools=pools, compared=self.compared + pool.n1)

    def _without_pool(self, key: int, pools: FrozenMap[int, Totals], alone: Counts) -> Comparison:
        """With a pool that gets no more requests; the canary's count alone if the stable has none."""
        pool, others = pools.get(key, NOTHING), pools.without(key)
        if pool.n1 and pool.n0:
            compared = self._compared(pool, others)
            return replace(compared, proof=compared.proof.add_canary_alone(alone))
        proof = self.proof.add_canary_alone(alone + pool.canary)
        return replace(self, proof=proof, pools=others, left_out=self.left_out + pool.n1)

    def _full(self, pool: Totals) -> bool:
        return min(pool.n1, pool.n0) >= self.test.parameters.min_stratum

    def still_needed(self, s: Totals, carried_over: int) -> float | None:
        """See `NonInferiority.still_needed`."""
        return self.standing(carried_over).still_needed(s)

    def close_epoch(self, epoch: int, carried_over: int) -> Comparison:
        """See `ConditionalTest.close_epoch`; also adds the pool and the carried-over bad requests to the proof."""
        without = self._without_pool(epoch, self.pools, Counts(0, carried_over))
        return replace(without, test=self.test.close_epoch(epoch))

    @property
    def strata(self) -> frozenset[int]:
        """The keys of the strata that are open, in the test or in the proof."""
        return frozenset([*self.test.open, *self.pools])

    def state(self) -> dict[str, Any]:
        """The state of test and proof, for JSON."""
        pools = {str(epoch): stored.written(totals) for epoch, totals in sorted(self.pools.items())}
        return {
            "test": self.test.state(),
            "proof": list(self.proof.logs),
            "waiting": pools,
            "compared": [self.compared, self.left_out],
        }

    def continued(self, state: dict[str, Any]) -> Comparison:
        """The comparison that continues from `state`."""
        # States of earlier releases lack `compared`; they have no strata of load, to which alone it matters.
        compared, left_out = map(stored.whole, state.get("compared", (0, 0)))
        return Comparison(
            test=ConditionalTest.from_state(self.test.parameters, state["test"]),
            proof=self.proof.continued(state["proof"]),
            pools=stored.totals_by_epoch(state["waiting"], self.test.parameters.most_open),
            compared=compared,
            left_out=left_out,
        )


@dataclass(frozen=True)
class MetricTests:
    """The running tests of one metric, with the counts that they were fed."""

    parameters: MetricParameters
    leaves: tuple[Comparison | CeilingTest, ...]
    totals: tuple[Totals, ...]
    """By leaf, all counts since the trial began."""
    carried_over: FrozenMap[int, RequestsBySide] = EMPTY
    """By epoch, bad requests of canary and stable that exceed the requests counted so far.

    They are counted with the epoch's next requests. This happens only if a separate counter counts bad requests, which
    can be scraped later than the requests themselves; such a metric has one leaf.
    """
    incomparable: bool = False
    """Whether the two sides have ever counted in ways that cannot be compared."""

    @classmethod
    def begin(cls, parameters: MetricParameters) -> MetricTests:
        """The tests before the first request."""
        p = parameters
        leaf: Comparison | CeilingTest = (
            CeilingTest.begin(p.ceiling, p.alpha / p.leaves)
            if p.ceiling is not None
            else Comparison(ConditionalTest(p.test), p.proof)
        )
        return cls(parameters, (leaf,) * p.leaves, (NOTHING,) * p.leaves)

    @property
    def evidence(self) -> float:
        """The strongest evidence against the canary over all leaves, as a share of what a rollback needs, 0 to 1."""
        return max(min(1.0, max(0.0, leaf.log_e / leaf.threshold)) for leaf in self.leaves)

    @property
    def strongest(self) -> int:
        """Index of the leaf that causes the rollback, else of the leaf with the strongest evidence."""
        order = range(len(self.leaves))
        return max(order, key=lambda i: (self.leaves[i].rolled_back, self.leaves[i].log_e, -i))

    @property
    def rolled_back(self) -> bool:
        """Whether the evidence of a leaf has ever been enough for a rollback."""
        return any(leaf.rolled_back for leaf in self.leaves)

    @property
    def proven(self) -> bool:
        """Whether the proof of every leaf holds now."""
        return all(leaf.proven(self._carried_over.canary) for leaf in self.leaves)

    @property
    def little_overlap(self) -> bool:
        """Whether so few of the canary's requests had a counterpart at equal load that nothing can be proven."""
        if self.parameters.margin_of is not MarginOf.TIMES:
            return False
        return any(leaf.overlap < OVERLAP for leaf in self.comparisons)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The leaves that compare canary and stable, without ceilings."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Comparison))

    @property
    def shared(self) -> bool:
        """Whether the stable is above a ceiling."""
        return any(isinstance(leaf, CeilingTest) and leaf.shared for leaf in self.leaves)

    @property
    def exceeded(self) -> bool:
        """Whether the canary is above a ceiling, also if the stable is."""
        return any(isinstance(leaf, CeilingTest) and leaf.exceeded for leaf in self.leaves)

    @property
    def exposed(self) -> bool:
        """Whether any request was counted, on either side."""
        return any(total.requests for total in self.totals)

    def add(
        self,
        counts: Sequence[Totals],
        *,
        t: float,
        epoch: int,
        settled: bool,
        young: bool = False,
        for_proof: Sequence[Totals] | None = None,
    ) -> MetricTests:
        """The tests with the counts of one stratum in one interval.

        Args:
            counts: requests and bad requests of both sides, by leaf.
            t: end of the interval, in seconds since the canary's first traffic.
            epoch: the epoch in which the requests arrived, or the key of a stratum of it (`slices.stratum`).
            settled: whether the epoch had lasted at least the settle time; only then the counts go into the proof.
            young: whether slow answers of the epoch can still be missing; see `ConditionalTest.add`.
            for_proof: the counts for the proof, if its bad requests are others: margin and tolerance differ.
        """
        leaves, totals, carried_over = [], [], self.carried_over
        for leaf, total, measured in zip(self.leaves, self.totals, counts, strict=True):
            counted, excess = _limited(measured, carried_over.get(epoch, RequestsBySide()))
            carried_over = carried_over.put(epoch, excess) if excess.both else carried_over.without(epoch)
            totals.append(total + counted)
            s = Slice(counted.n1, counted.x1, counted.n0, counted.x0, t=t, epoch=epoch)
            leaves.append(leaf.add(s, settled=settled and for_proof is None, young=young))
        if for_proof is not None and settled:
            leaves = [
                leaf.pool(more, epoch) if isinstance(leaf, Comparison) else leaf
                for leaf, more in zip(leaves, for_proof, strict=True)
            ]
        return replace(self, leaves=tuple(leaves), totals=tuple(totals), carried_over=carried_over)

    def nothing_ended(self, but: Container[int]) -> MetricTests:
        """See `Comparison.nothing_ended`; to be called once per interval, after `add`."""
        leaves = [leaf.nothing_ended(but) if isinstance(leaf, Comparison) else leaf for leaf in self.leaves]
        return replace(self, leaves=tuple(leaves))

    @property
    def _carried_over(self) -> RequestsBySide:
        """All carried-over bad requests; those of the canary count against the proof at once."""
        return sum(self.carried_over.values(), RequestsBySide())

    def totals_with_carried_over(self, leaf: int) -> Totals:
        """All counts of a leaf since the trial began, including bad requests that are carried over."""
        total, more = self.totals[leaf], self._carried_over
        return Totals(total.n1, min(total.n1, total.x1 + more.canary), total.n0, min(total.n0, total.x0 + more.stable))

    def close_epoch(self, epoch: int) -> MetricTests:
        """The tests with an epoch closed in all leaves; to be called before its value of the label is reused."""
        more = self.carried_over.get(epoch, RequestsBySide()).canary
        leaves = [leaf.close_epoch(epoch, more) for leaf in self.leaves]
        closed = replace(self, leaves=tuple(leaves), carried_over=self.carried_over.without(epoch))
        parts = {key for leaf in self.comparisons for key in leaf.strata if key >= RING and epoch_of(key) == epoch}
        for key in sorted(parts):
            closed = replace(closed, leaves=tuple([leaf.close_epoch(key, 0) for leaf in closed.leaves]))
        return closed

    def still_needed(self) -> tuple[int, float | None]:
        """Index of the leaf that needs the most canary requests until it is proven, and the estimated number of them.

        The number is None if no number of requests is enough at these rates.
        """
        more = self._carried_over.canary
        needs = [
            (i, 0.0 if leaf.proven(more) else leaf.still_needed(self.totals_with_carried_over(i), more))
            for i, leaf in enumerate(self.leaves)
        ]
        return max(needs, key=lambda need: float("inf") if need[1] is None else need[1])

    def state(self) -> dict[str, Any]:
        """The state of all leaves, for JSON; its size is bounded by the number of leaves and epochs."""
        carried_over = {str(epoch): [bad.canary, bad.stable] for epoch, bad in sorted(self.carried_over.items())}
        return {
            "leaves": [leaf.state() for leaf in self.leaves],
            "totals": [stored.written(total) for total in self.totals],
            "owed": carried_over,
            "incomparable": self.incomparable,
        }

    @classmethod
    def from_state(cls, parameters: MetricParameters, state: dict[str, Any]) -> MetricTests:
        """The tests that continue from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        begun = cls.begin(parameters)
        try:
            totals = tuple(map(stored.totals, state["totals"]))
            return cls(
                parameters,
                leaves=tuple(
                    leaf.continued(written) if isinstance(leaf, Comparison) else leaf.continued(written, total)
                    for leaf, written, total in zip(begun.leaves, state["leaves"], totals, strict=True)
                ),
                totals=totals,
                carried_over=FrozenMap(
                    {int(e): stored.by_side(bad) for e, bad in stored.bounded(state["owed"], MOST_OPEN).items()}
                ),
                # States of earlier releases lack it. They are accepted, or an upgrade would restart every trial.
                incomparable=stored.flag(state.get("incomparable", False)),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The stored state of the metric is damaged: {error}.") from error


def _limited(measured: Totals, carried_over: RequestsBySide) -> tuple[Totals, RequestsBySide]:
    """What counts of an interval, and the bad requests beyond n that are carried over to the next one."""
    n1, n0 = measured.n1, measured.n0
    x1, x0 = measured.x1 + carried_over.canary, measured.x0 + carried_over.stable
    excess = RequestsBySide(max(0, x1 - n1), max(0, x0 - n0))
    return Totals(n1, x1 - excess.canary, n0, x0 - excess.stable), excess
