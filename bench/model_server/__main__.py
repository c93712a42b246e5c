"""Runs the benchmark and writes results.md: `python -m bench.model_server [--rounds N]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.model_server.alone import EVENTS, costs, page_milliseconds
from bench.model_server.load import Round, request, round_of
from model_server.cpu.install import VLLM_VERSION
from model_server.serve import MODEL, Server, serving

SIZES = (2_048, 65_536, 524_288)
CONNECTIONS = 2
RESULTS = Path(__file__).with_name("results.md")
# Per round; about a second each.
REQUESTS = {2_048: 60, 65_536: 60, 524_288: 40}
_RESAMPLES = 2000
FLAGS = ("--max-model-len=256", "--uvicorn-log-level=warning", "--disable-uvicorn-access-log")


@dataclass(frozen=True)
class Compared:
    """Bare against measured, for one size of body; intervals are 95 % of a bootstrap over rounds."""

    size: int
    requests: int
    ratio: float
    ratio_range: tuple[float, float]
    bare_p99: float
    difference: float
    difference_range: tuple[float, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.model_server", description="What the middleware costs.")
    parser.add_argument("--rounds", type=int, default=80, help="pairs of rounds per size, about two seconds each")
    rounds = parser.parse_args(arguments).rounds
    alone = costs(SIZES)
    page = page_milliseconds()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(serving(scratch, *FLAGS, middleware=False))
        measured = stack.enter_context(serving(scratch, *FLAGS, middleware=True))
        compared = [asyncio.run(_compare(bare, measured, size, rounds)) for size in SIZES]
        counted = sum(measured.samples("serin_requests_total{").values())
        failures = sum(measured.samples("serin_middleware_failures_total").values())
    sent = sum(each.requests for each in compared) + sum(REQUESTS.values())
    if counted != sent or failures:
        sys.stderr.write(f"bench: {sent} requests were sent, {counted:g} counted, {failures:g} failures; no result.\n")
        return 1
    lines = [
        "<!-- Written by `make bench-model-server`. -->",
        "# What the middleware costs",
        "",
        f"vLLM {VLLM_VERSION} on a CPU with the tiny model, {os.cpu_count()} cores, everything on loopback; {rounds}",
        "pairs of rounds per size, with and without the middleware in turn, order swapped each time,",
        f"{CONNECTIONS} connections, streamed answers of 4 tokens. Intervals: 95 % (bootstrap over pairs of rounds).",
        "",
        "| body | requests per side | throughput, measured / bare | p99 of TTFT, bare | measured - bare |",
        "|---|---|---|---|---|",
        *(
            f"| {each.size // 1024} KB | {each.requests} | {each.ratio:.4f} ({each.ratio_range[0]:.4f} to "
            f"{each.ratio_range[1]:.4f}) | {each.bare_p99 * 1e3:.1f} ms | {each.difference * 1e3:+.2f} ms "
            f"({each.difference_range[0] * 1e3:+.2f} to {each.difference_range[1] * 1e3:+.2f}) |"
            for each in compared
        ),
        "",
        f"The middleware alone, around an application that does nothing and answers with {EVENTS} events:",
        "",
        "| body | added per request, median | highest of the rounds |",
        "|---|---|---|",
        *(f"| {each.size // 1024} KB | {each.median:.0f} µs | {each.highest:.0f} µs |" for each in alone),
        "",
        f"A page of /metrics with all 64 pairs in use takes {page:.0f} ms longer; with two revisions and one epoch,",
        f"about {page / 32:.1f} ms.",
        "",
        f"Counted by the middleware: {counted:g} of {sent} requests (those that warmed it up included), no failure.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[2:]))
    return 0


async def _compare(bare: Server, measured: Server, size: int, rounds: int) -> Compared:
    count = REQUESTS[size]
    numbers = iter(range(10**9))
    sides: dict[bool, list[Round]] = {False: [], True: []}
    for number in range(rounds + 1):
        # The same requests for both; the order swaps, so that neither always comes after the other.
        requests = [request(MODEL, size, next(numbers)) for _ in range(count)]
        for side in (False, True) if number % 2 else (True, False):
            port = (measured if side else bare).port
            sides[side].append(await round_of(port, requests, CONNECTIONS))
    # The first pair warms up.
    pairs = list(zip(sides[False][1:], sides[True][1:], strict=True))
    print(f"bench: {size // 1024} KB done", file=sys.stderr, flush=True)
    return Compared(
        size,
        count * rounds,
        _ratio(pairs),
        _range(pairs, _ratio),
        _p99([each for each, _ in pairs]),
        _difference(pairs),
        _range(pairs, _difference),
    )


Pairs = Sequence[tuple[Round, Round]]


def _ratio(pairs: Pairs) -> float:
    return statistics.median(measured.throughput / bare.throughput for bare, measured in pairs)


def _difference(pairs: Pairs) -> float:
    return _p99([measured for _, measured in pairs]) - _p99([bare for bare, _ in pairs])


def _p99(rounds: Sequence[Round]) -> float:
    times = sorted(seconds for each in rounds for seconds in each.first_tokens)
    return times[int(len(times) * 0.99)]


def _range(pairs: Pairs, of: Callable[[Pairs], float]) -> tuple[float, float]:
    rng = random.Random(1)
    values = sorted(of(rng.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    return values[int(0.025 * _RESAMPLES)], values[int(0.975 * _RESAMPLES)]


if __name__ == "__main__":
    sys.exit(main())
