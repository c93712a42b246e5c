"""Plays, writes, and fails if a limit is not met: `python -m bench.decision`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.decision import agreement, report
from bench.decision.latency_rows import latency_rows
from bench.decision.play import SEED, Player
from bench.decision.rows import Measurements, Row
from bench.decision.whole_rows import WholeTrials

PARTS = ("test", "whole", "latency")
"""Of the rows: the test alone, whole trials with every comparison, and latencies on simulated pods."""
BESIDE = {"test": "fixed ramp", "whole": "steps", "latency": "loads mixed"}


def main() -> int:
    """Measure everything; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.decision", description="The decision engine beside others' rules.")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the runs; below 1 nothing is written")
    parser.add_argument("--only", choices=PARTS, help="one part of the rows; nothing is written")
    arguments = parser.parse_args()
    scale = arguments.scale
    began = time.monotonic()
    compared = agreement.check(SEED)
    print(f"decision: the compiled arithmetic is the operator's on {compared[0]} slices", flush=True)
    measured = Measurements(Player(scale))
    trials = WholeTrials(Player(scale), measured)
    found: dict[str, list[Row]] = {}
    parts: list[Callable[[], Iterator[Row]]] = [measured.rows, trials.rows, partial(latency_rows, scale)]
    for part, played in zip(PARTS, parts, strict=True):
        found[part] = []
        if arguments.only not in {None, part}:
            continue
        for row in played():
            found[part].append(row)
            words = "; ".join(filter(None, (row.serin, row.fixed and f"{BESIDE[part]} {row.fixed}")))
            print(
                f"{ {True: 'holds', False: 'FAILS', None: '     '}[row.holds] }  {row.scenario}: {words} [{row.limit}]",
                flush=True,
            )
    if arguments.only in {None, "whole"}:
        for line in trials.first():
            print(f"       what a team gets: {' | '.join(line)}", flush=True)
    rows = [row for part in PARTS for row in found[part]]
    if scale >= 1 and not arguments.only:
        report.write(Path(__file__).parent, found, measured, trials, compared)
    cpu = time.process_time()
    failed = [row.scenario for row in rows if row.holds is False]
    took = f"{time.monotonic() - began:.0f} s, {cpu:.0f} s of processor time"
    print(f"decision: {len(rows)} rows, {len(failed)} over the limit, {took}")
    if failed:
        print(f"decision: {'; '.join(failed)}: over the limit; see what changed in serin.evidence.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
