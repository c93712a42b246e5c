"""The running tests of one metric: one per boundary of a histogram, or one for a ratio or a ceiling.

The tests share the metric's alpha equally. The operator stores `state` as JSON and continues with `restore`. Not here:
which counts feed a metric (`serin.analysis.measurement`), and the verdict over several metrics
(`serin.analysis.verdict`). Specification: docs/reference/decision-engine.md, section 5.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import NOTHING, Slice, Totals, together


@dataclass(frozen=True)
class MetricParameters:
    """Parameters of one metric's tests; pinned when a trial starts."""

    alpha: float
    """This metric's share of the probability of a wrong rollback; a histogram's boundaries share it equally."""
    margin: float
    """How many times worse the canary may be before it counts as worse."""
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


@dataclass
class Comparison:
    """Canary against stable for one kind of bad request: the test that can roll back, and the proof."""

    test: ConditionalTest
    proof: NonInferiority
    pools: dict[int, Totals] = field(default_factory=dict)
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
            carried_over: bad requests of the canary that are not counted yet; see `MetricEvidence.carried_over`.
        """
        partial = [pool for pool in self.pools.values() if not self._full(pool)]
        n1, x1 = sum(n1 for n1, *_ in partial), sum(x1 for _, x1, *_ in partial)
        return self.proof.counting_alone(n1, carried_over + x1)

    def proven(self, carried_over: int) -> bool:
        """Whether the canary is proven to be no worse than the tolerance, now."""
        return self.standing(carried_over).proven

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Add one slice to the test and, if it is settled, to the proof."""
        self.test.add(s, young=young)
        if settled:
            self._pool(s.totals, s.epoch)

    def nothing_ended(self, but: Container[int]) -> None:
        """Put full pools into the proof, except those of the epochs `but`, whose requests finished in this interval."""
        for epoch in [epoch for epoch in self.pools if epoch not in but]:
            self._pool(NOTHING, epoch)

    def _pool(self, more: Totals, epoch: int) -> None:
        """Add counts to the pool of an epoch, and put the pool into the proof one interval after it became full.

        The last interval brings the rest of the side that is scraped later. The rule depends on n, never on x, as for
        strata. There are at most as many pools as the epoch label has values.
        """
        pool = self.pools.pop(epoch, NOTHING)
        both = together(pool, more)
        if not self._full(pool):
            self.pools |= {epoch: both} if any(both) else {}
        elif self._full(more):
            self.proof.add(Slice(*pool))
            self.pools[epoch] = more
        else:
            self.proof.add(Slice(*both))

    def _full(self, pool: Totals) -> bool:
        return min(pool[0], pool[2]) >= self.test.parameters.min_stratum

    def still_needed(self, s: Slice, carried_over: int) -> float | None:
        """See `NonInferiority.still_needed`."""
        return self.standing(carried_over).still_needed(s)

    def close_epoch(self, epoch: int, carried_over: int) -> None:
        """See `ConditionalTest.close_epoch`; also adds the epoch's pool and carried-over bad requests to the proof."""
        self.test.close_epoch(epoch)
        n1, x1, n0, x0 = self.pools.pop(epoch, NOTHING)
        if n1 and n0:
            self.proof.add(Slice(n1, x1, n0, x0))
            n1, x1 = 0, 0
        self.proof = self.proof.counting_alone(n1, x1 + carried_over)

    def state(self) -> dict[str, Any]:
        """The state of test and proof, for JSON."""
        pools = {str(epoch): list(counts) for epoch, counts in sorted(self.pools.items())}
        return {"test": self.test.state(), "proof": list(self.proof.logs), "waiting": pools}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.test = ConditionalTest.from_state(self.test.parameters, state["test"])
        logs = [float(log) for log in state["proof"]]
        if len(logs) != len(self.proof.logs):
            raise ValueError("different number of alternatives of the proof")
        self.proof.logs = logs
        self.pools = {
            int(epoch): (int(n1), int(x1), int(n0), int(x0)) for epoch, (n1, x1, n0, x0) in state["waiting"].items()
        }


@dataclass
class MetricEvidence:
    """The running tests of one metric, with the counts that they were fed."""

    parameters: MetricParameters
    leaves: list[Comparison | CeilingTest] = field(init=False)
    totals: list[Totals] = field(init=False)
    """By leaf, all counts since the trial began."""
    carried_over: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By epoch, bad requests of canary and stable that exceed the requests counted so far.

    They are counted with the epoch's next requests. This happens only if a separate counter counts bad requests, which
    can be scraped later than the requests themselves; such a metric has one leaf.
    """
    incomparable: bool = False
    """Whether the two sides have ever counted in ways that cannot be compared."""

    def __post_init__(self) -> None:
        p = self.parameters
        alpha = p.alpha / p.leaves
        self.leaves = [
            CeilingTest(p.ceiling, alpha)
            if p.ceiling is not None
            else Comparison(
                ConditionalTest(Parameters(alpha=alpha, margin=p.margin)),
                NonInferiority(rho=p.ratio, delta=p.absolute),
            )
            for _ in range(p.leaves)
        ]
        self.totals = [NOTHING] * p.leaves

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
        return all(leaf.proven(self._carried_over) for leaf in self.leaves)

    @property
    def comparisons(self) -> list[Comparison]:
        """The leaves that compare canary and stable, without ceilings."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Comparison)]

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
        return any(n1 or n0 for n1, _, n0, _ in self.totals)

    def add(self, counts: Sequence[Totals], *, t: float, epoch: int, settled: bool, young: bool = False) -> None:
        """Add the counts of one epoch in one interval.

        Args:
            counts: requests and bad requests of both sides, by leaf.
            t: end of the interval, in seconds since the canary's first traffic.
            epoch: the epoch in which the requests arrived.
            settled: whether the epoch had lasted at least the settle time; only then the counts go into the proof.
            young: whether slow answers of the epoch can still be missing; see `ConditionalTest.add`.
        """
        for index, (leaf, given) in enumerate(zip(self.leaves, counts, strict=True)):
            n1, x1, n0, x0 = self._with_carried_over(given, epoch)
            self.totals[index] = together(self.totals[index], (n1, x1, n0, x0))
            leaf.add(Slice(n1, x1, n0, x0, t=t, epoch=epoch), settled=settled, young=young)

    def nothing_ended(self, but: Container[int]) -> None:
        """See `Comparison.nothing_ended`; to be called once per interval, after `add`."""
        for leaf in self.comparisons:
            leaf.nothing_ended(but)

    @property
    def _carried_over(self) -> int:
        """The canary's carried-over bad requests; they count against the proof at once."""
        return sum(one for one, _ in self.carried_over.values())

    def shown(self, leaf: int) -> Totals:
        """All counts of a leaf since the trial began, including bad requests that are carried over."""
        n1, x1, n0, x0 = self.totals[leaf]
        more0 = sum(zero for _, zero in self.carried_over.values())
        return n1, min(n1, x1 + self._carried_over), n0, min(n0, x0 + more0)

    def _with_carried_over(self, counts: Totals, epoch: int) -> Totals:
        """The counts with the epoch's carried-over bad requests; bad requests beyond n are carried over again."""
        n1, x1, n0, x0 = counts
        more1, more0 = self.carried_over.pop(epoch, (0, 0))
        x1, x0 = x1 + more1, x0 + more0
        if x1 > n1 or x0 > n0:
            self.carried_over[epoch] = (max(0, x1 - n1), max(0, x0 - n0))
        return n1, min(x1, n1), n0, min(x0, n0)

    def close_epoch(self, epoch: int) -> None:
        """Close an epoch in all leaves; to be called before its value of the label is reused."""
        carried_over, _ = self.carried_over.pop(epoch, (0, 0))
        for leaf in self.leaves:
            leaf.close_epoch(epoch, carried_over)

    def still_needed(self) -> tuple[int, float | None]:
        """Index of the leaf that needs the most canary requests until it is proven, and the estimated number of them.

        The number is None if no number of requests is enough at these rates.
        """
        more = self._carried_over
        needs = [
            (i, 0.0 if leaf.proven(more) else leaf.still_needed(Slice(*self.shown(i)), more))
            for i, leaf in enumerate(self.leaves)
        ]
        return max(needs, key=lambda need: float("inf") if need[1] is None else need[1])

    def state(self) -> dict[str, Any]:
        """The state of all leaves, for JSON; its size is bounded by the number of leaves and epochs."""
        carried_over = {str(epoch): list(bad) for epoch, bad in sorted(self.carried_over.items())}
        return {
            "leaves": [leaf.state() for leaf in self.leaves],
            "totals": [list(total) for total in self.totals],
            "owed": carried_over,
            "incomparable": self.incomparable,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        try:
            totals = [(int(n1), int(x1), int(n0), int(x0)) for n1, x1, n0, x0 in state["totals"]]
            # States of earlier releases lack some fields. They are accepted, or an upgrade would restart every trial.
            for leaf, stored, total in zip(self.leaves, state["leaves"], totals, strict=True):
                leaf.restore({"stableSeen": total[2] > 0, **stored})
            self.incomparable = bool(state.get("incomparable", False))
            self.carried_over = {int(epoch): (int(one), int(zero)) for epoch, (one, zero) in state["owed"].items()}
            self.totals = totals
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The stored state of the metric is damaged ({error}); start the trial anew.") from error
