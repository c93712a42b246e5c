"""Prints both tables, or compares with a real model server: `python -m bench.podsim [--against-vllm [URL]]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from bench.podsim.against import Target, check
from bench.podsim.compare import by_load, plain
from bench.podsim.served import vllm, write
from bench.podsim.tables import Shares, rows, shares


def main() -> int:
    """Play and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.podsim", description="Latency comparisons on simulated pods.")
    parser.add_argument("--runs", type=int, default=40, help="trials per row")
    parser.add_argument("--only", default="", help="rows whose words contain this")
    parser.add_argument(
        "--against-vllm",
        metavar="URL",
        nargs="?",
        const="",
        help="compare with the pod at http://host:port instead; without URL, with a vLLM that is started here, "
        "and write results.md",
    )
    parser.add_argument("--model", default="model", help="the name of its model")
    parser.add_argument("--split", type=Path, help="its split document")
    arguments = parser.parse_args()
    if arguments.against_vllm is not None:
        if arguments.against_vllm:
            report = asyncio.run(check(Target.of(arguments.against_vllm, arguments.model, arguments.split)))
        else:
            load = os.getloadavg()[0]
            with vllm() as target:
                report = asyncio.run(check(target))
            write(report, load)
        print(*report.lines(), sep="\n")
        return 1 if report.wrong else 0
    for kind, words, scenario in rows():
        if arguments.only not in words:
            continue
        began = time.monotonic()
        mixed, alike = shares(scenario, (plain, arguments.runs), (by_load, arguments.runs))
        took = time.monotonic() - began
        print(f"{kind:9}  {words}: loads mixed: {_words(mixed)} | by load: {_words(alike)}  ({took:.0f} s)", flush=True)
    return 0


def _words(each: Shares) -> str:
    minutes = "" if each.minutes is None else f" after {each.minutes:.0f} min"
    return (
        f"rolled back {each.rolled_back:.0%}{minutes}, proven {each.proven:.0%}, noisy {each.noisy:.0%}, "
        f"overlap {each.overlap:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
