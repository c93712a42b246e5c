"""Plays many runs of one kernel on all cores; the result depends on the seed and on nothing else. Called by `rows`."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bench.decision.kernel import Floats, Ints
from bench.decision.rollouts import AT_MAX, BAD, CHANGES, DT, REQUESTS, ROLLED

SEED = 20261126
BLOCK = 250
"""Runs per block: a block has a generator of its own, so that it may run on any core."""
FEWEST = 20
"""Runs of a scenario at the smallest scale."""


@dataclass(frozen=True)
class Played:
    """The runs of one kernel, and what they say together."""

    runs: Floats

    @property
    def rolled(self) -> Floats:
        """The runs that ended in a rollback (or, for a proof, in a promotion)."""
        return self.runs[self.runs[:, ROLLED] >= 0]

    @property
    def p(self) -> float:
        """The share of them."""
        return len(self.rolled) / len(self.runs)

    @property
    def bad(self) -> float:
        """Mean excess of bad answers."""
        return float(self.runs[:, BAD].mean())

    @property
    def bad_se(self) -> float:
        """Standard error of that mean."""
        return float(self.runs[:, BAD].std() / math.sqrt(len(self.runs)))

    @property
    def requests(self) -> float:
        """Mean requests of the canary."""
        return float(self.runs[:, REQUESTS].mean())

    @property
    def changes(self) -> float:
        """Mean number of changes of the weight."""
        return float(self.runs[:, CHANGES].mean())

    @property
    def delay(self) -> float | None:
        """Median minutes until the decision over all runs; None if half of them or more never came to one."""
        return float(np.median(self.rolled[:, ROLLED]) + 1) * DT / 60 if self.p > 0.5 else None

    @property
    def at_max(self) -> float | None:
        """Median minutes until the largest weight; None if half of the runs or more never had it."""
        slices = np.where(self.runs[:, AT_MAX] < 0, np.inf, self.runs[:, AT_MAX])
        median = float(np.median(slices)) * DT / 60
        return median if math.isfinite(median) else None


@dataclass(frozen=True)
class Player:
    """How many runs a scenario gets, as a share of what the results are made of."""

    scale: float = 1.0

    def play(
        self, name: str, runs: int, rps: float, slices: int, kernel: Callable[[np.random.Generator, Ints], Floats]
    ) -> Played:
        """Play `runs` runs. Arrivals depend on `rps` and `slices` only: rules that are compared see the same ones."""

        wanted = round(runs * self.scale)
        size = min(BLOCK, max(FEWEST, wanted))

        def block(number: int) -> Floats:
            traffic = np.random.default_rng([SEED, round(rps * 10), slices, number])
            arrivals = traffic.poisson(rps * DT, (size, slices))
            return kernel(np.random.default_rng([SEED, zlib.crc32(name.encode()), number]), arrivals)

        blocks = max(1, round(wanted / BLOCK))
        first = block(0)  # alone: this compiles the kernel
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return Played(np.concatenate([first, *pool.map(block, range(1, blocks))]))
