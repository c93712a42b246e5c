"""The running tests of one metric: one per boundary of a histogram, or one for a ratio or a ceiling.

The tests share the metric's alpha equally. The operator stores `state` as JSON and continues with `from_state`. Nothing
changes in place: `add` and its like return new tests. Not here: which counts feed a metric
(`serin.analysis.measurement`), and the verdict over several metrics (`serin.analysis.verdict`). Specification:
docs/reference/decision-engine.md, section 5.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serin.evidence import stored
from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import MOST_OPEN, ConditionalTest, Parameters
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.non_inferiority import UNPROVEN, NonInferiority
from serin.evidence.slices import NOTHING, Counts, RequestsBySide, Slice, Totals


@dataclass(frozen=True)
class MetricParameters:
    """Parameters of one metric's tests; pinned when a trial starts."""

    alpha: float
    """This metric's share of the probability of a wrong rollback; a histogram's boundaries share it equally."""
    margin: float
    """How many times the stable's bad rate the canary's may be before it counts as worse."""
    ratio: float
    """Tolerance of the proof: at most this many times the stable's bad rate ..."""
    absolute: float
    """... plus this rate, 0 to 1."""
    boundaries: tuple[float, ...] = ()
    """Boundaries of a histogram, in the metric's unit; empty for a ratio."""
    ceiling: float | None = None
    """An absolute limit on the canary's bad rate, 0 to 1; None for a comparison."""

    @property
    def leaves(self) -> int:
        """Number of tests."""
        return max(1, len(self.boundaries))


@dataclass(frozen=True)
class Comparison:
    """Canary against stable for one kind of bad request: the test that can roll back, and the proof."""

    test: ConditionalTest
    proof: NonInferiority
    pools: FrozenMap[int, Totals] = EMPTY
    """By epoch, settled slices that are not in the proof yet; a pool is full if both sides have enough requests.

    The pods of both sides are not scraped at the same time, so one side's part of a pool can come an interval later.
    """

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

    def standing(self, carried_over: int) -> NonInferiority:
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
        """Add totals to the pool of an epoch, and put the pool into the proof one interval after it became full.

        The last interval brings the rest of the side that is scraped later. The rule depends on n, never on x, as for
        strata. There are at most as many pools as the epoch label has values.
        """
        pool, others = self.pools.get(epoch, NOTHING), self.pools.without(epoch)
        both = pool + more
        if not self._full(pool):
            return replace(self, pools=others if both == NOTHING else others.put(epoch, both))
        if self._full(more):
            return replace(self, proof=self.proof.add(pool), pools=others.put(epoch, NOTHING + more))
        return replace(self, proof=self.proof.add(both), pools=others)

    def _full(self, pool: Totals) -> bool:
        return min(pool.n1, pool.n0) >= self.test.parameters.min_stratum

    def still_needed(self, s: Totals, carried_over: int) -> float | None:
        """See `NonInferiority.still_needed`."""
        return self.standing(carried_over).still_needed(s)

    def close_epoch(self, epoch: int, carried_over: int) -> Comparison:
        """See `ConditionalTest.close_epoch`; also adds the epoch's pool and carried-over bad requests to the proof."""
        pool, proof, alone = self.pools.get(epoch, NOTHING), self.proof, Counts(0, carried_over)
        if pool.n1 and pool.n0:
            proof = proof.add(pool)
        else:
            alone += pool.canary
        return Comparison(self.test.close_epoch(epoch), proof.add_canary_alone(alone), self.pools.without(epoch))

    def state(self) -> dict[str, Any]:
        """The state of test and proof, for JSON."""
        pools = {str(epoch): stored.written(totals) for epoch, totals in sorted(self.pools.items())}
        return {"test": self.test.state(), "proof": list(self.proof.logs), "waiting": pools}

    def continued(self, state: dict[str, Any]) -> Comparison:
        """The comparison that continues from `state`."""
        return Comparison(
            test=ConditionalTest.from_state(self.test.parameters, state["test"]),
            proof=replace(self.proof, logs=stored.logs(state["proof"], like=UNPROVEN)),
            pools=stored.totals_by_epoch(state["waiting"], MOST_OPEN),
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
        alpha = p.alpha / p.leaves
        leaf: Comparison | CeilingTest = (
            CeilingTest.begin(p.ceiling, alpha)
            if p.ceiling is not None
            else Comparison(
                ConditionalTest(Parameters(alpha=alpha, margin=p.margin, of_rates=True)),
                NonInferiority(rho=p.ratio, delta=p.absolute),
            )
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

    def add(self, counts: Sequence[Totals], *, t: float, epoch: int, settled: bool, young: bool = False) -> MetricTests:
        """The tests with the counts of one epoch in one interval.

        Args:
            counts: requests and bad requests of both sides, by leaf.
            t: end of the interval, in seconds since the canary's first traffic.
            epoch: the epoch in which the requests arrived.
            settled: whether the epoch had lasted at least the settle time; only then the counts go into the proof.
            young: whether slow answers of the epoch can still be missing; see `ConditionalTest.add`.
        """
        leaves, totals, carried_over = [], [], self.carried_over
        for leaf, total, measured in zip(self.leaves, self.totals, counts, strict=True):
            counted, excess = _limited(measured, carried_over.get(epoch, RequestsBySide()))
            carried_over = carried_over.put(epoch, excess) if excess.both else carried_over.without(epoch)
            totals.append(total + counted)
            s = Slice(counted.n1, counted.x1, counted.n0, counted.x0, t=t, epoch=epoch)
            leaves.append(leaf.add(s, settled=settled, young=young))
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
        return replace(self, leaves=tuple(leaves), carried_over=self.carried_over.without(epoch))

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
