"""One metric of a trial: one comparison per boundary (a plain ratio has one), the share of alpha that each may use,
and what they say together.

Pure and JSON in between: the operator keeps `state` and goes on with `restore`. Which counts feed a metric is decided
in `serin.analysis.measurement`; how several metrics make a verdict, in `serin.analysis.verdict`.
Source: docs/reference/decision-engine.md, section 5.
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
    """How one metric is tested; pinned when a trial starts."""

    alpha: float
    """This metric's part of the false-rollback budget; a histogram's boundaries share it equally."""
    margin: float
    """How many times worse the canary may be before it counts as worse."""
    ratio: float
    """Tolerance of the proof: at most this many times the stable's bad rate …"""
    absolute: float
    """… plus this."""
    boundaries: tuple[float, ...] = ()
    """Of a histogram, in the metric's own unit; empty for a ratio."""
    ceiling: float | None = None
    """An absolute limit on the canary's bad rate instead of a comparison."""

    @property
    def leaves(self) -> int:
        """How many comparisons there are."""
        return max(1, len(self.boundaries))


@dataclass
class Comparison:
    """Canary against stable for one count of bad requests: evidence against it, and proof for it."""

    test: ConditionalTest
    proof: NonInferiority
    waiting: dict[int, Totals] = field(default_factory=dict)
    """By epoch, a pool of settled slices that the proof has not taken in yet; full once both sides have enough of them.

    The pods of both sides are not scraped at one moment, so one side may show its part of a pool an interval later.
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
        """Whether the evidence was enough; it stays so."""
        return self.test.rolled_back

    def standing(self, owed: int) -> NonInferiority:
        """The proof at this moment: what waits of the canary for the stable's answers counts alone meanwhile.

        Failures that take longer than anything of the stable's, such as time-outs, end in an epoch that is over and
        meet nobody there. Left out while they wait they would be missing for good.

        Args:
            owed: requests that were counted and were found to be bad since; see `MetricEvidence.owed`.
        """
        alone = [pool for pool in self.waiting.values() if not self._full(pool)]
        return self.proof.counting_alone(sum(n1 for n1, *_ in alone), owed + sum(x1 for _, x1, *_ in alone))

    def proven(self, owed: int) -> bool:
        """Whether the canary is proven no worse than the tolerance, now."""
        return self.standing(owed).proven

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Take one slice into account; only a settled one counts for the proof."""
        self.test.add(s, young=young)
        if settled:
            self._pool(s.totals, s.epoch)

    def nothing_ended(self, but: Container[int]) -> None:
        """In this interval no answer of any other epoch came: a pool that is full waits no longer."""
        for epoch in [epoch for epoch in self.waiting if epoch not in but]:
            self._pool(NOTHING, epoch)

    def _pool(self, more: Totals, epoch: int) -> None:
        """Looks at n, never at x, as strata do. A full pool is taken in an interval later, with the rest of one side.

        Epochs are as many as the label has values, so pools are, too.
        """
        pool = self.waiting.pop(epoch, NOTHING)
        both = together(pool, more)
        if not self._full(pool):
            self.waiting |= {epoch: both} if any(both) else {}
        elif self._full(more):
            self.proof.add(Slice(*pool))
            self.waiting[epoch] = more
        else:
            self.proof.add(Slice(*both))

    def _full(self, pool: Totals) -> bool:
        return min(pool[0], pool[2]) >= self.test.parameters.min_stratum

    def still_needed(self, s: Slice, owed: int) -> float | None:
        """See `NonInferiority.still_needed`."""
        return self.standing(owed).still_needed(s)

    def close_epoch(self, epoch: int, owed: int) -> None:
        """See `ConditionalTest.close_epoch`; nothing will come any more to what waits, nor to what is owed."""
        self.test.close_epoch(epoch)
        n1, x1, n0, x0 = self.waiting.pop(epoch, NOTHING)
        if n1 and n0:
            self.proof.add(Slice(n1, x1, n0, x0))
            n1, x1 = 0, 0
        self.proof = self.proof.counting_alone(n1, x1 + owed)

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON."""
        waiting = {str(epoch): list(counts) for epoch, counts in sorted(self.waiting.items())}
        return {"test": self.test.state(), "proof": list(self.proof.logs), "waiting": waiting}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.test = ConditionalTest.from_state(self.test.parameters, state["test"])
        logs = [float(log) for log in state["proof"]]
        if len(logs) != len(self.proof.logs):
            raise ValueError("the proof has another number of alternatives")
        self.proof.logs = logs
        self.waiting = {
            int(epoch): (int(n1), int(x1), int(n0), int(x0)) for epoch, (n1, x1, n0, x0) in state["waiting"].items()
        }


@dataclass
class MetricEvidence:
    """All that is known about one metric so far."""

    parameters: MetricParameters
    leaves: list[Comparison | CeilingTest] = field(init=False)
    totals: list[Totals] = field(init=False)
    """Per leaf, everything that was counted since the trial began."""
    owed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By epoch, bad ones of canary and stable that were found in a later interval than their requests: not counted yet.

    Only where bad ones have a counter of their own, hence of a metric with one leaf.
    """
    incomparable: bool = False
    """Whether the two sides were seen to count in ways that cannot be compared; it stays so."""

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
        """The strongest evidence against the canary, 0..1 of what a rollback needs."""
        return max(min(1.0, max(0.0, leaf.log_e / leaf.threshold)) for leaf in self.leaves)

    @property
    def strongest(self) -> int:
        """Index of the leaf that fired, else of the one with the strongest evidence."""
        order = range(len(self.leaves))
        return max(order, key=lambda i: (self.leaves[i].rolled_back, self.leaves[i].log_e, -i))

    @property
    def rolled_back(self) -> bool:
        """Whether one leaf has seen enough."""
        return any(leaf.rolled_back for leaf in self.leaves)

    @property
    def proven(self) -> bool:
        """Whether every leaf is proven now."""
        return all(leaf.proven(self._owed) for leaf in self.leaves)

    @property
    def comparisons(self) -> list[Comparison]:
        """The leaves that do nothing but compare; a ceiling does more."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Comparison)]

    @property
    def shared(self) -> bool:
        """Whether the stable breaks a ceiling that the canary was to keep."""
        return any(isinstance(leaf, CeilingTest) and leaf.shared for leaf in self.leaves)

    @property
    def exceeded(self) -> bool:
        """Whether the canary is above a ceiling, whoever is to blame."""
        return any(isinstance(leaf, CeilingTest) and leaf.exceeded for leaf in self.leaves)

    @property
    def exposed(self) -> bool:
        """Whether anything was counted at all, on either side."""
        return any(n1 or n0 for n1, _, n0, _ in self.totals)

    def add(self, counts: Sequence[Totals], *, t: float, epoch: int, settled: bool, young: bool = False) -> None:
        """Take into account what one epoch showed in one interval.

        Args:
            counts: by leaf.
            t: end of the interval, seconds since the canary's first traffic.
            epoch: in which the requests arrived.
            settled: whether the epoch had lasted the settle time by then.
            young: whether it began so shortly before that slow answers may be missing; see `ConditionalTest.add`.
        """
        for index, (leaf, given) in enumerate(zip(self.leaves, counts, strict=True)):
            n1, x1, n0, x0 = self._balanced(given, epoch)
            self.totals[index] = together(self.totals[index], (n1, x1, n0, x0))
            leaf.add(Slice(n1, x1, n0, x0, t=t, epoch=epoch), settled=settled, young=young)

    def nothing_ended(self, but: Container[int]) -> None:
        """See `Comparison.nothing_ended`; to be said once in every interval, after `add`."""
        for leaf in self.comparisons:
            leaf.nothing_ended(but)

    @property
    def _owed(self) -> int:
        """Bad answers of the canary that are owed; the proof does not wait for the requests that make room for them."""
        return sum(one for one, _ in self.owed.values())

    def shown(self, leaf: int) -> Totals:
        """Everything that was counted, bad ones that are owed among it."""
        n1, x1, n0, x0 = self.totals[leaf]
        return n1, min(n1, x1 + self._owed), n0, min(n0, x0 + sum(zero for _, zero in self.owed.values()))

    def _balanced(self, counts: Totals, epoch: int) -> Totals:
        """As many bad ones as there are requests at the most; the others wait for the epoch's next requests."""
        n1, x1, n0, x0 = counts
        owed1, owed0 = self.owed.pop(epoch, (0, 0))
        x1, x0 = x1 + owed1, x0 + owed0
        if x1 > n1 or x0 > n0:
            self.owed[epoch] = (max(0, x1 - n1), max(0, x0 - n0))
        return n1, min(x1, n1), n0, min(x0, n0)

    def close_epoch(self, epoch: int) -> None:
        """Close the strata of an epoch value that is about to be used again."""
        owed, _ = self.owed.pop(epoch, (0, 0))
        for leaf in self.leaves:
            leaf.close_epoch(epoch, owed)

    def still_needed(self) -> tuple[int, float | None]:
        """The leaf that needs the most canary requests until it is proven, and how many; None: not at this rate."""
        needs = [
            (i, 0.0 if leaf.proven(self._owed) else leaf.still_needed(Slice(*self.shown(i)), self._owed))
            for i, leaf in enumerate(self.leaves)
        ]
        return max(needs, key=lambda need: float("inf") if need[1] is None else need[1])

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON; bounded by the number of leaves."""
        owed = {str(epoch): list(bad) for epoch, bad in sorted(self.owed.items())}
        return {
            "leaves": [leaf.state() for leaf in self.leaves],
            "totals": [list(total) for total in self.totals],
            "owed": owed,
            "incomparable": self.incomparable,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, under the same parameters.

        Raises:
            ValueError: it is of another version, or damaged.
        """
        try:
            totals = [(int(n1), int(x1), int(n0), int(x0)) for n1, x1, n0, x0 in state["totals"]]
            # What came later is read without, or an upgrade would begin every trial anew.
            for leaf, kept, total in zip(self.leaves, state["leaves"], totals, strict=True):
                leaf.restore({"stableSeen": total[2] > 0, **kept})
            self.incomparable = bool(state.get("incomparable", False))
            self.owed = {int(epoch): (int(one), int(zero)) for epoch, (one, zero) in state["owed"].items()}
            self.totals = totals
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The state of the evidence is damaged ({error}); start the trial anew.") from error
