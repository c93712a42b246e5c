"""The rows of both tables: identical and slower canaries. Called by `main` and `bench.decision`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from multiprocessing import get_context

from bench.podsim.compare import Verdict
from bench.podsim.trial import Scenario, Series, play

HELD = ((0, 2500),)
HOLDBACK = ((0, 9800),)
SMALL = ((0, 500), (1200, 1000))
IDENTICAL: dict[str, Scenario] = {
    "TTFT, 4 requests/s per pod, 4 replicas": Scenario("ttft", 4, 4),
    "TTFT, 6 requests/s per pod, 3 replicas": Scenario("ttft", 6, 3),
    "TTFT, 6 requests/s per pod, 4 replicas": Scenario("ttft", 6, 4),
    "TPOT, 4 requests/s per pod, 4 replicas": Scenario("tpot", 4, 4),
    "TPOT, 6 requests/s per pod, 4 replicas": Scenario("tpot", 6, 4),
    "end to end, 4 requests/s per pod, 4 replicas": Scenario("e2e", 4, 4),
    "end to end, 6 requests/s per pod, 4 replicas": Scenario("e2e", 6, 4),
    "TTFT, 6 requests/s per pod, 4 replicas, sized by the operator": Scenario("ttft", 6, 4, pods="sized"),
    "TTFT, held at 25 %, 8 replicas, 4 per pod": Scenario("ttft", 4, 8, steps=HELD),
    "TTFT, held at 25 %, 8 replicas, 6 per pod": Scenario("ttft", 6, 8, steps=HELD),
    "TTFT, holdback 98/2, 4 replicas, 4 per pod": Scenario("ttft", 4, 4, steps=HOLDBACK),
    "TTFT, equal load, 1 per pod, 4 replicas": Scenario("ttft", 1, 4, pods="shared"),
    "TTFT, equal load, 2 per pod, 4 replicas": Scenario("ttft", 2, 4, pods="shared"),
    "TTFT, equal load, 3 per pod, 4 replicas": Scenario("ttft", 3, 4, pods="shared"),
    "TTFT, cold prefix cache for 15 min, 4 per pod, 4 replicas": Scenario("ttft", 4, 4, hit=0.7, cold_seconds=900),
}
"""An identical canary; the limits are those of `LIMITS`."""
SLOWER: dict[str, Scenario] = {
    "TPOT, 4 requests/s per pod, 4 replicas, 1.5 times slower": Scenario("tpot", 4, 4, slow=1.5, pods="sized"),
    "TPOT, 6 requests/s per pod, 4 replicas, 1.5 times slower": Scenario("tpot", 6, 4, slow=1.5, pods="sized"),
    "TTFT, 6 requests/s per pod, 4 replicas, 1.5 times slower": Scenario("ttft", 6, 4, slow=1.5, pods="sized"),
}
"""A canary whose steps take half as long again, sized by the operator: to be rolled back within the hour."""
FEWEST_PODS: dict[str, Scenario] = {
    "TTFT, 6 requests/s per pod, 4 replicas, 1.5 times slower, no more pods than needed": Scenario(
        "ttft", 6, 4, slow=1.5
    ),
}
"""The same with so much load per pod that the stable hardly ever has it: shown only."""
WORSE_UNDER_LESS_LOAD: dict[str, Scenario] = {
    "TTFT, 5/10 % ramp, 6 per pod, 4 replicas, 1.3 times slower": Scenario("ttft", 6, 4, steps=SMALL, slow=1.3),
}
"""A slower canary with less load per pod than the stable: not to be proven no worse."""
ROLLED_BACK_AT_MOST, NOISY_AT_MOST, SLOWER_AT_LEAST, PROVEN_AT_MOST = 0.01, 0.05, 0.80, 0.05


@dataclass(frozen=True)
class Shares:
    """What became of the runs of one row, as shares of them."""

    runs: int
    rolled_back: float
    noisy: float
    proven: float
    """Of all runs: not rolled back, and proven at the end."""
    minutes: float | None
    """Median until the rollback, of those that were rolled back."""
    overlap: float
    """Mean share of the canary's requests that had a counterpart."""


Judge = Callable[[Series], Verdict]


def shares(scenario: Scenario, *judges: tuple[Judge, int]) -> list[Shares]:
    """Play each trial once; each judge sees as many as it asks for, the first one the most. In the order of the judges.

    In processes, because much of a trial is not compiled and would wait for the others.
    """
    one = partial(_verdicts, scenario, judges)
    first = one(0)  # before the processes are forked: this compiles the kernels for all of them
    trials = range(1, max(runs for _, runs in judges))
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("fork")) as pool:
        found = [first, *pool.map(one, trials, chunksize=4)]
    return [_shares([verdicts[at] for verdicts in found[:runs]]) for at, (_, runs) in enumerate(judges)]


def _verdicts(scenario: Scenario, judges: Sequence[tuple[Judge, int]], seed: int) -> list[Verdict]:
    """What the judges say about a trial, down to the first one that does not see it."""
    series = play(scenario, seed)
    return [judge(series) for judge, _ in takewhile(lambda each: seed < each[1], judges)]


def _shares(verdicts: list[Verdict]) -> Shares:
    n = len(verdicts)
    rolled = [v.rolled_back for v in verdicts if v.rolled_back is not None]
    return Shares(
        n,
        len(rolled) / n,
        sum(v.noisy for v in verdicts) / n,
        sum(v.proven and v.rolled_back is None for v in verdicts) / n,
        statistics.median(rolled) / 60 if rolled else None,
        statistics.fmean(v.overlap for v in verdicts),
    )


def rows() -> Iterator[tuple[str, str, Scenario]]:
    """Kind (`identical`, `slower`, `more load`, `less load`), words and scenario of every row."""
    groups = {"identical": IDENTICAL, "slower": SLOWER, "more load": FEWEST_PODS, "less load": WORSE_UNDER_LESS_LOAD}
    for kind, group in groups.items():
        for words, scenario in group.items():
            yield kind, words, scenario
