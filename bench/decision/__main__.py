"""Plays, writes, and fails if a limit is not met: `python -m bench.decision`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.decision import agreement, report
from bench.decision.play import SEED, Player
from bench.decision.rows import Measurements


def main() -> int:
    """Measure everything; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.decision", description="The decision engine beside others' rules.")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the runs; below 1 nothing is written")
    scale = parser.parse_args().scale
    began = time.monotonic()
    compared = agreement.check(SEED)
    print(f"decision: the compiled arithmetic is the operator's on {compared[0]} slices", flush=True)
    measured, rows = Measurements(Player(scale)), []
    for row in measured.rows():
        rows.append(row)
        words = "; ".join(filter(None, (row.serin, row.fixed and f"fixed ramp {row.fixed}")))
        print(
            f"{ {True: 'holds', False: 'FAILS', None: '     '}[row.holds] }  {row.scenario}: {words} [{row.limit}]",
            flush=True,
        )
    if scale >= 1:
        report.write(Path(__file__).parent, rows, measured, compared)
    cpu = time.process_time()
    failed = [row.scenario for row in rows if row.holds is False]
    took = f"{time.monotonic() - began:.0f} s, {cpu:.0f} s of processor time"
    print(f"decision: {len(rows)} rows, {len(failed)} over the limit, {took}")
    if failed:
        print(f"decision: {'; '.join(failed)}: over the limit; see what changed in serin.evidence.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
