"""One metric of a trial: one comparison per boundary (a plain ratio has one), the share of alpha that each may use,
and what they say together.

Pure and JSON in between: the operator keeps `state` and goes on with `restore`. Which counts feed a metric is decided
in `serin.rollout.measurement`; how several metrics make a verdict, in `serin.rollout.verdict`. Specification, part 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from serin.evidence.ceiling import CeilingTest
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Slice

Totals = tuple[int, int, int, int]
"""n1, x1, n0, x0: exposures and bad counts of canary and stable."""
NOTHING: Totals = (0, 0, 0, 0)


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
    """By epoch, settled slices that one side was not seen in yet: the pods of both are not scraped at one moment."""

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

    @property
    def proven(self) -> bool:
        """Whether the canary is proven no worse than the tolerance, now."""
        return self.proof.proven

    def add(self, s: Slice, *, settled: bool, young: bool = False) -> None:
        """Take one slice into account; only a settled one counts for the proof."""
        self.test.add(s, young=young)
        if not settled:
            return
        n1, x1, n0, x0 = self.waiting.pop(s.epoch, NOTHING)
        pooled = (n1 + s.n1, x1 + s.x1, n0 + s.n0, x0 + s.x0)
        # Looks at n, never at x, as strata do. Epochs are as many as the label has values, so these are, too.
        if min(pooled[0], pooled[2]) >= self.test.parameters.min_stratum:
            self.proof.add(Slice(*pooled))
        else:
            self.waiting[s.epoch] = pooled

    def still_needed(self, s: Slice) -> float | None:
        """See `NonInferiority.still_needed`."""
        return self.proof.still_needed(s)

    def close_epoch(self, epoch: int) -> None:
        """See `ConditionalTest.close_epoch`; what still waits to count for the proof never will."""
        self.test.close_epoch(epoch)
        self.waiting.pop(epoch, None)

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
        return all(leaf.proven for leaf in self.leaves)

    @property
    def comparisons(self) -> list[Comparison]:
        """The leaves that compare, hence have strata; a ceiling has none."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Comparison)]

    @property
    def shared(self) -> bool:
        """Whether the stable breaks a ceiling that the canary was to keep."""
        return any(isinstance(leaf, CeilingTest) and leaf.shared for leaf in self.leaves)

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
            before = self.totals[index]
            self.totals[index] = (before[0] + n1, before[1] + x1, before[2] + n0, before[3] + x0)
            leaf.add(Slice(n1, x1, n0, x0, t=t, epoch=epoch), settled=settled, young=young)

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
        self.owed.pop(epoch, None)
        for leaf in self.leaves:
            leaf.close_epoch(epoch)

    def still_needed(self) -> tuple[int, float | None]:
        """The leaf that needs the most canary requests until it is proven, and how many; None: not at this rate."""
        needs = [
            (i, 0.0 if leaf.proven else leaf.still_needed(Slice(*self.totals[i]))) for i, leaf in enumerate(self.leaves)
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
            for leaf, kept in zip(self.leaves, state["leaves"], strict=True):
                leaf.restore(kept)
            totals = [(int(n1), int(x1), int(n0), int(x0)) for n1, x1, n0, x0 in state["totals"]]
            # What came later is read without, or an upgrade would begin every trial anew.
            self.incomparable = bool(state.get("incomparable", False))
            self.owed = {int(epoch): (int(one), int(zero)) for epoch, (one, zero) in state["owed"].items()}
            self.totals = [total for total, _ in zip(totals, self.leaves, strict=True)]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The state of the evidence is damaged ({error}); start the trial anew.") from error
