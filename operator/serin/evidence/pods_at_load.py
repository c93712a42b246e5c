"""Detects stable pods that differ for long at equal load; queues that come and go do not count.

As `noise`, for latencies that are compared at equal load. Requests above a boundary come in bursts, because they wait
in the same queue, so the dispersion of `noise` calls equal pods different. Here each pod's requests above the boundary
are compared with what the load of each request leads to expect, and only a difference that keeps its sign over many
stretches of time counts: z^2 = (sum of the differences)^2 / (sum of their squares). If a pod's differences are as often
above as below zero, z > x has a probability of at most exp(-x^2 / 2), whatever their sizes (Efron 1969), so bursts need
no model. Called by `serin.analysis.update`. Specification: docs/reference/decision-engine.md, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serin.evidence import stored
from serin.evidence.frozen_map import EMPTY, FrozenMap
from serin.evidence.metric import MetricParameters
from serin.evidence.noise import MOST_PROCESSES
from serin.evidence.slices import Counts

STRETCH_SECONDS = 60.0
"""Duration of a stretch; the queues of two stretches should be independent."""
SURE = 18.0
"""Smallest z^2 that counts: with 8 pods, 6 boundaries and an hour of looks, chance reaches it in less than 5 %."""
EXPECTED = 50.0
"""Requests above the boundary that a pod must have been expected to have."""
MOST_CELLS = 64

CountsByCell = Mapping[int, Sequence[Counts]]
"""Of one process, by cell (load bucket and cached tokens), the counts of each boundary."""


@dataclass(frozen=True)
class Differences:
    """One process at one boundary: how its requests above the boundary differ from the expected number."""

    difference: float = 0.0
    """Of the open stretch."""
    expectation: float = 0.0
    """Expected number in the open stretch."""
    total: float = 0.0
    """Sum over the finished stretches."""
    squares: float = 0.0
    expected: float = 0.0

    def add(self, difference: float, expectation: float) -> Differences:
        """With more requests of the open stretch."""
        return replace(self, difference=self.difference + difference, expectation=self.expectation + expectation)

    def finish(self, common: float) -> Differences:
        """With the stretch finished; `common` is the relative difference of all processes, which is nobody's own."""
        own = self.difference - common * self.expectation
        return Differences(
            total=self.total + own, squares=self.squares + own * own, expected=self.expected + self.expectation
        )

    def stands_out(self, expected_of_all: float, margin: float) -> bool:
        """Whether the process differs for long, and from the others by more than the canary may from the stable."""
        others = expected_of_all - self.expected
        if self.expected < EXPECTED or others < EXPECTED or self.total**2 < SURE * self.squares or not self.squares:
            return False
        own, of_others = 1 + self.total / self.expected, 1 - self.total / others
        return max(own, of_others) > margin * max(0.0, min(own, of_others))


NONE = Differences()


@dataclass(frozen=True)
class PodsAtLoad:
    """The running comparison of the stable's processes at equal load."""

    parameters: MetricParameters
    seconds: float = 0.0
    """Duration of the open stretch."""
    usual: FrozenMap[int, tuple[Counts, ...]] = EMPTY
    """By cell, all counts of all processes so far, by boundary: what a load leads to expect."""
    processes: FrozenMap[str, tuple[Differences, ...]] = EMPTY
    """By process, one per boundary."""

    @property
    def outlier(self) -> str | None:
        """The process that differs from the others; None if none does."""
        margin, found = self.parameters.margin, []
        for index in range(self.parameters.leaves):
            leaf = {name: leaves[index] for name, leaves in self.processes.items()}
            expected = sum(each.expected for each in leaf.values())
            found += [(abs(each.total), name) for name, each in leaf.items() if each.stands_out(expected, margin)]
        return max(found)[1] if found else None

    @property
    def noisy(self) -> bool:
        """Whether a process differs for long from what its load explains."""
        return self.outlier is not None

    def add(self, processes: Mapping[str, CountsByCell], seconds: float) -> PodsAtLoad:
        """With the counts of an interval of `seconds`."""
        usual = self._usual_with(processes)
        known = dict(self.processes)
        for process, by_cell in processes.items():
            if process not in known:
                if len(known) >= MOST_PROCESSES:
                    continue
                known[process] = (NONE,) * self.parameters.leaves
            known[process] = tuple(
                leaf.add(*_difference(index, by_cell, usual)) for index, leaf in enumerate(known[process])
            )
        after = replace(self, usual=usual, processes=FrozenMap(known), seconds=self.seconds + seconds)
        return after.finish() if after.seconds >= STRETCH_SECONDS else after

    def finish(self) -> PodsAtLoad:
        """With the open stretch finished."""
        leaves = range(self.parameters.leaves)
        common = []
        for index in leaves:
            expected = sum(each[index].expectation for each in self.processes.values())
            common.append(sum(e[index].difference for e in self.processes.values()) / expected if expected else 0.0)
        finished = {
            process: tuple(each[index].finish(common[index]) for index in leaves)
            for process, each in self.processes.items()
        }
        return replace(self, seconds=0.0, processes=FrozenMap(finished))

    def _usual_with(self, processes: Mapping[str, CountsByCell]) -> FrozenMap[int, tuple[Counts, ...]]:
        usual = dict(self.usual)
        for by_cell in processes.values():
            for cell, leaves in by_cell.items():
                if cell in usual or len(usual) < MOST_CELLS:
                    before = usual.get(cell, (Counts(),) * len(leaves))
                    usual[cell] = tuple(had + more for had, more in zip(before, leaves, strict=True))
        return FrozenMap(usual)

    def state(self) -> dict[str, Any]:
        """The state, for JSON; its size is bounded by boundaries, MOST_PROCESSES and MOST_CELLS."""
        return {
            "seconds": self.seconds,
            "usual": {str(cell): [[c.requests, c.bad] for c in leaves] for cell, leaves in self.usual.items()},
            "processes": {
                process: [[d.difference, d.expectation, d.total, d.squares, d.expected] for d in leaves]
                for process, leaves in self.processes.items()
            },
        }

    @classmethod
    def from_state(cls, parameters: MetricParameters, state: Mapping[str, Any]) -> PodsAtLoad:
        """The comparison that continues from `state`, under the same parameters.

        Raises:
            ValueError: the state has another version or is damaged.
        """
        try:
            usual = {
                int(cell): tuple(map(stored.counts, leaves))
                for cell, leaves in stored.bounded(state["usual"], MOST_CELLS).items()
            }
            processes = {
                process: tuple(Differences(*map(stored.finite, leaf)) for leaf in leaves)
                for process, leaves in stored.bounded(state["processes"], MOST_PROCESSES).items()
            }
            found = cls(parameters, stored.finite(state["seconds"]), FrozenMap(usual), FrozenMap(processes))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"The stored state of the pods at load is damaged: {error}.") from error
        if any(len(leaves) != parameters.leaves for leaves in (*usual.values(), *processes.values())):
            raise ValueError("The stored state of the pods at load has a different number of boundaries.")
        return found


def _difference(index: int, by_cell: CountsByCell, usual: Mapping[int, tuple[Counts, ...]]) -> tuple[float, float]:
    """By how much the requests above a boundary differ from the expected number, and that number."""
    difference = expectation = 0.0
    for cell, leaves in by_cell.items():
        if cell in usual:
            known, counts = usual[cell][index], leaves[index]
            expected = counts.requests * known.bad / known.requests if known.requests else 0.0
            difference += counts.bad - expected
            expectation += expected
    return difference, expectation
