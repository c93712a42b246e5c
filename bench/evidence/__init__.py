"""`serin evidence` on 10,000 slices, two days of a trial: processor time of the whole program, from its start.

Slices of 15 s at 25 % of the traffic, 1 % of the answers bad on both sides, as `serin replay` writes them. Limit: 10 s.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SLICES, SLICE_SECONDS = 10_000, 15
WEIGHT, BAD = 0.25, 0.01
TRAFFIC = (2, 20, 200)
"""Requests per second."""
MOST_SECONDS = 10.0
PATIENCE = 300
"""Seconds of the clock: other programs may run."""


def main() -> None:
    """Measure, print one line, and fail if the limit is exceeded."""
    took = {rps: _processor_seconds(_slices(rps)) for rps in TRAFFIC}
    words = ", ".join(f"{seconds:.1f} s at {rps} requests/s" for rps, seconds in took.items())
    print(f"evidence: `serin evidence` on {SLICES:,} slices: {words} (processor time; limit {MOST_SECONDS:.0f} s)")
    if max(took.values()) > MOST_SECONDS:
        raise SystemExit("bench: `serin evidence` exceeds the limit. See what changed in serin.evidence.")


def _slices(rps: int) -> str:
    """The lines that are read; they depend on the rate only."""
    random = np.random.default_rng([SLICES, rps])
    requests = random.poisson(rps * SLICE_SECONDS, SLICES)
    canary = random.binomial(requests, WEIGHT)
    bad = [random.binomial(side, BAD) for side in (canary, requests - canary)]
    lines = [
        {"n1": n1, "x1": x1, "n0": n - n1, "x0": x0, "t": SLICE_SECONDS * (at + 1), "epoch": 1}
        for at, (n, n1, x1, x0) in enumerate(
            zip(requests.tolist(), canary.tolist(), bad[0].tolist(), bad[1].tolist(), strict=True)
        )
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _processor_seconds(lines: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "serin", "evidence"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=PATIENCE,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != SLICES or any("error" in answer for answer in answers):
        raise SystemExit(f"bench: {len(answers)} of {SLICES} slices were answered: {done.stdout[:300]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
