"""Repeats what was measured at commit af6ca3c with the present code: `python -m bench.measurement`.

Canaries whose requests never become an ordinary answer, latencies at unequal load, what Prometheus hands over, and what
margins and defaults mean. Prints the tables and writes results.md, with the figures of that commit beside the new ones.
Ends with status 1 if a limit is exceeded. Not here: the test itself beside others' (`bench.decision`).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import reading
from bench.decision.latency_rows import limit_and_holds
from bench.decision.play import Player
from bench.decision.rows import Measurements
from bench.decision.whole import GROWING, PROMOTED, STEPS
from bench.decision.whole_rows import ALL, Side, WholeTrials
from bench.measurement import before, margins, servers
from bench.measurement.canaries import RAMPS, Case, Ended, Serve, cases, play
from bench.podsim.compare import by_load, plain
from bench.podsim.tables import Shares, rows, shares
from bench.podsim.trial import Scenario
from bench.sections import joined
from fakes.traffic import Load

RESULTS = Path(__file__).with_name("results.md")
RPS = 20.0
BAD_RUNS, IDENTICAL_RUNS, AT_LIMIT_RUNS = 3, 6, 20
"""Rollouts of a row and ramp: of a bad canary, of an identical one, and of one at a limit."""
LATENCY_RUNS = 40
HALVES_RUNS = 60
MARGIN_RUNS = 100
REQUESTS, LATENCIES, PROMETHEUS, MEANING = (
    "Requests that never become an answer",
    "Latencies of identical canaries at unequal load",
    "What Prometheus hands over",
    "What margins and defaults mean",
)


@dataclass(frozen=True)
class Line:
    """A row of a table, and whether its limits hold."""

    cells: tuple[str, ...]
    holds: bool


Table = tuple[tuple[str, ...], Callable[[], Iterator[Line]]]
"""The columns, and what plays the rows."""


def main() -> int:
    """Play the tables, write them, and return 1 if a limit is exceeded."""
    tables: dict[str, Table] = {
        REQUESTS: (("canary's requests", "before", *RAMPS, "holds"), _canaries),
        LATENCIES: (("case", "before", "loads mixed", "by load", "limit", "holds"), _latencies),
        PROMETHEUS: (("what happens", "before", "now", "holds"), _prometheus),
        MEANING: (("case", "before", "now", "limit", "holds"), _meaning),
    }
    parser = argparse.ArgumentParser(prog="python -m bench.measurement", description=__doc__)
    parser.add_argument("--only", choices=tables, help="one table; the others stay as they are")
    only = parser.parse_args().only
    failed = 0
    for title, (columns, played) in tables.items():
        if only not in {None, title}:
            continue
        lines = [_row(columns), _row("---" for _ in columns)]
        print(f"\n{title}\n", *lines, sep="\n", flush=True)
        for line in played():
            failed += not line.holds
            lines.append(_row((*line.cells, "yes" if line.holds else "**no**")))
            print(lines[-1], flush=True)
        _write(title, f"{INTRODUCTIONS[title]}\n\n" + "\n".join(lines), list(tables))
    print(f"\nmeasurement: {failed} rows over their limit")
    return 1 if failed else 0


HEAD = f"""<!-- Written by `make bench-measurement`. -->
# Measured again

What was measured at commit {before.COMMIT}, with the code of today. *Before*: what that commit did.
"""
INTRODUCTIONS = {
    REQUESTS: f"""\
Whole rollouts at {RPS:g} requests/s and 1 % errors, read every 5 s, for an hour at most: single requests, counters,
scrapes, the collector, the reconciler and the route (`fakes/traffic.py`). How many ended how, after how many minutes of
traffic at the median, and how many of the canary's requests were harmed at the median. *Running*: it kept a weight and
was not promoted. A loss of a tenth is the tolerance itself, so one in twenty may be promoted.""",
    LATENCIES: f"""\
Pods with continuous batching (`bench/podsim`), {LATENCY_RUNS} trials of an hour per row. *Off*: rolled back; *noisy*:
the stable's pods were found to differ. *Loads mixed*: plain histograms, as before.""",
    PROMETHEUS: """\
Two pods of a stable and one of a canary, scraped every 15 s and read every 5 s for 15 minutes, each with a million
requests before; *counted* are the requests of both. The same on a real Prometheus:
`tests/integration/counting/test_servers.py` and `test_counting.py`. Rollouts as above.""",
    MEANING: """\
The test of errors alone; pods of `bench/podsim`; and whole trials of `bench/decision` with every comparison. A slower
engine has more load also within a load bucket, so a latency near its margin is judged more strictly than the margin
says: 1.25 times as slow is rolled back.""",
}


def _row(cells: Iterator[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _write(title: str, text: str, order: list[str]) -> None:
    """Replace one section of the page."""
    old = RESULTS.read_text() if RESULTS.exists() else ""
    RESULTS.write_text(f"{HEAD}\n{joined(old, {title: text}, order)}\n")


def run(rps: float, name: str, ramp: str, seed: int) -> Ended:
    """A rollout in a process of its own, which finds the case by its name."""
    case = next(case for case in cases(rps) if case.name == name)
    return asyncio.run(play(case, ramp, seed))


def _canaries() -> Iterator[Line]:
    with ProcessPoolExecutor() as pool:
        playing = {
            (case.name, ramp): [pool.submit(run, RPS, case.name, ramp, seed) for seed in range(_runs(case))]
            for case in cases(RPS)
            for ramp in RAMPS
        }
        for case in cases(RPS):
            ended = {ramp: [each.result() for each in playing[case.name, ramp]] for ramp in RAMPS}
            yield Line(
                (case.name, before.CANARIES.get(case.name, ""), *map(_ends, ended.values())),
                not any(case.misjudged(each) for each in ended.values()),
            )


def _runs(case: Case) -> int:
    if case.wrong_at_most:
        return AT_LIMIT_RUNS
    return IDENTICAL_RUNS if "promoted" in case.right else BAD_RUNS


def _ends(ended: list[Ended]) -> str:
    """How many ended how, with the medians of minutes and harmed requests."""
    words = []
    for how in ("off", "promoted", "running"):
        if found := [each for each in ended if each.how == how]:
            minutes, harmed = (
                sorted(of)[len(found) // 2] for of in ([e.minutes for e in found], [e.harmed for e in found])
            )
            words.append(f"{how} {len(found)} of {len(ended)}, {minutes:.0f} min ({harmed:.0f})")
    return "; ".join(words)


def _latencies() -> Iterator[Line]:
    for kind, words, scenario in rows():
        alike, mixed = shares(scenario, (by_load, LATENCY_RUNS), (plain, LATENCY_RUNS))
        limit, holds = limit_and_holds(kind, alike)
        yield Line((words, before.LATENCIES.get(words, ""), _share(mixed), _share(alike), limit), holds is not False)


def _share(each: Shares) -> str:
    return f"off {each.rolled_back:.0%}, noisy {each.noisy:.0%}, proven {each.proven:.0%}"


def _prometheus() -> Iterator[Line]:
    middle = servers.START.timestamp() + 1000
    late = partial(servers.LateServer, seconds=servers.SCRAPE + 2.0)
    for words, old, make, ahead in (
        ("two jobs scrape the pods", before.TWO_JOBS, servers.DoubleServer, 0.0),
        ("samples come 2 s later than `evidenceLag`", before.LATE, late, 0.0),
        ("Prometheus' clock is 60 s behind", before.SKEWED, partial(servers.SkewedServer, seconds=-60.0), -60.0),
        ("Prometheus' clock is 60 s ahead", "", partial(servers.SkewedServer, seconds=60.0), 60.0),
        (
            "a label is added in mid-trial",
            before.RENAMED,
            partial(servers.RenamingServer, at=round(1000 * middle)),
            0.0,
        ),
    ):
        found = servers.read(make, ahead=ahead)
        counted, happened = (sum(of.values()) for of in (found.counted, found.happened))
        said = f'; said: "{found.warnings[0]}"' if found.warnings else ""
        yield Line((words, old, f"{counted:,} of {happened:,} counted{said}"), counted == happened)
    yield from _rollouts("samples come 2 s later than `evidenceLag`", late)
    yield from _rollouts("Prometheus' clock is 60 s behind", partial(servers.SkewedServer, seconds=-60.0))
    cost = reading.measure()
    seconds, mib = min(cost["processor"]), cost["mib"]
    yield Line(
        ("a reading of 200 adaptive rollouts, real Prometheus", before.READING, f"{seconds:.2f} s and {mib:.0f} MiB"),
        seconds <= reading.MOST_SECONDS and mib <= reading.MOST_MIB,
    )
    share = servers.halves_found(HALVES_RUNS, pooled=float(servers.SCRAPE))
    yield Line(
        ("one of the stable's two pods fails ten times as often", before.HALVES, f"found in {share:.0%} within 2 h"),
        share >= 0.95,
    )


def _rollouts(words: str, serve: Serve) -> Iterator[Line]:
    """An identical canary and one with five times the errors, read through such a server."""
    load = Load(RPS, restarts_per_hour=0.0)
    for name, case in (
        ("identical canary", Case(words, load, right=frozenset({"promoted"}))),
        ("canary with five times the errors", Case(words, replace(load, worse=5.0))),
    ):
        ended = [asyncio.run(play(case, "steps", seed, serve)) for seed in range(BAD_RUNS)]
        yield Line((f"{words}: {name}, steps", "", _ends(ended)), not case.misjudged(ended))


def _meaning() -> Iterator[Line]:
    for base, margin in ((0.01, 1.1), (0.1, 1.1), (0.3, 1.1), (0.25, 1.25), (0.5, 1.25)):
        share = margins.rolled_back(base, margin, MARGIN_RUNS)
        yield Line(
            (
                f"{base:.0%} bad, {margin:g} times as many of the canary's, margin {margin:g}, 20 requests/s",
                before.AT_MARGIN if base >= 0.25 else "",
                f"off {share:.1%} within an hour at 25 %",
                "off <= .01 + 3 SE",
            ),
            share <= _one_percent(MARGIN_RUNS),
        )
    for slow, limited in ((1.1, True), (1.25, False)):
        (found,) = shares(Scenario("tpot", 4, 4, slow=slow, pods="sized"), (by_load, LATENCY_RUNS))
        yield Line(
            (
                f"TPOT, {slow:g} times as slow, margin 1.25, 4 requests/s per pod",
                "",
                f"off {found.rolled_back:.0%}, proven {found.proven:.0%}",
                "off <= .01 + 3 SE" if limited else "",
            ),
            not limited or found.rolled_back <= _one_percent(LATENCY_RUNS),
        )
    trials = WholeTrials(Player(1.0), Measurements(Player(1.0)))
    default, steps = (trials.play(200.0, Side(fails=0.9), mode, made=ALL) for mode in (GROWING, STEPS))
    yield Line(
        (
            "90 % fail, 200 requests/s, default ramp",
            before.DEFAULT_RAMP,
            f"{default.failed:.0f} bad answers ({steps.failed:.0f} with steps)",
            "at most 23 + 10 %",
        ),
        default.failed <= 1.1 * 23,
    )
    shown: tuple[tuple[float, float | None], ...] = ((2.0, None), (20.0, 0.05))
    for rps, promoted_at_most in shown:
        ends = trials.play(rps, Side(fails=0.003), GROWING, stable=Side(fails=0.0001), made=ALL)
        share = ends.share(PROMOTED)
        yield Line(
            (
                f"0.3 % errors against 0.01 %, {rps:g} requests/s, default tolerance",
                before.DEFAULT_TOLERANCE if rps == 2.0 else "",
                f"promoted {share:.0%}",
                "" if promoted_at_most is None else f"promoted <= {promoted_at_most:.0%} + 3 SE",
            ),
            promoted_at_most is None or share <= promoted_at_most + 3 * math.sqrt(0.05 * 0.95 / len(ends.runs)),
        )


def _one_percent(runs: int) -> float:
    return 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)


if __name__ == "__main__":
    sys.exit(main())
