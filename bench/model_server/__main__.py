"""Runs the benchmark and writes results.md: `python -m bench.model_server [--rounds N] [--only CASE]`."""

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
from dataclasses import dataclass, replace
from pathlib import Path

from bench.model_server.alone import EVENTS, costs, page_milliseconds
from bench.model_server.cases import CASES, Body, Case
from bench.model_server.load import Round, request, round_of
from bench.sections import joined
from model_server.cpu.install import VLLM_VERSION
from model_server.serve import Server, serving

CONNECTIONS = 1
"""With more, the intervals are five times as wide: client, server and engine share two cores."""
THROUGHPUT_AT_LEAST = 0.99
RESULTS = Path(__file__).with_name("results.md")
REQUESTS = 12
"""Per round of a tenth of a second, so that other programs slow down both sides of a pair, or neither."""
_RESAMPLES = 1000
_HEAD = f"""\
<!-- Written by `make bench-model-server`. -->
# What the middleware costs

vLLM {VLLM_VERSION} on a CPU with the tiny model, {os.cpu_count()} cores, everything on loopback; pairs of rounds
with and without the middleware in turn, order swapped each time, one connection, streamed answers of 4 tokens. The
other server stands still meanwhile. Where a prompt is in force, the client of the bare server sends its text as a
system message. Ratios are measured / bare. Intervals: 95 % (bootstrap over pairs of rounds). Two processes of one
program differ by a few percent by themselves, for a whole run: a ratio above 1 says only that no loss larger than
that was seen.

Limits: throughput at least {THROUGHPUT_AT_LEAST:g}, p99 of the time to first token 1 ms more at most, 2 ms for bodies
of escape sequences. Held: the whole interval is within them.
"""
FLAGS = ("--max-model-len=256", "--uvicorn-log-level=warning", "--disable-uvicorn-access-log")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def shown(self, form: str) -> str:
        """Return value and interval as text."""
        return f"{form.format(self.value)} ({form.format(self.low)} to {form.format(self.high)})"


@dataclass(frozen=True)
class Compared:
    """Bare against measured, for one kind of body."""

    body: Body
    requests: int
    throughput: Estimate
    cpu: Estimate
    cpu_bare: float
    """Seconds per request."""
    bare: str
    median: Estimate
    p99: Estimate

    @property
    def broken(self) -> bool:
        """Whether the whole interval is beyond a limit."""
        return self.throughput.high < THROUGHPUT_AT_LEAST or self.p99.low > self.body.p99_at_most

    @property
    def limits(self) -> str:
        """The result for the limits, as text."""
        held = self.throughput.low >= THROUGHPUT_AT_LEAST and self.p99.high <= self.body.p99_at_most
        return "held" if held else "broken" if self.broken else "not shown: too loud here"

    def row(self) -> str:
        """The row of the table."""
        cpu = f"{self.cpu.shown('{:.3f}')} of {self.cpu_bare * 1e3:.1f} ms"
        added = " | ".join(f"{each.shown('{:+.2f}')} ms" for each in (self.median, self.p99))
        return (
            f"| {self.body.name} | {self.requests} | {self.throughput.shown('{:.3f}')} | {cpu} | {self.bare} "
            f"| {added} | {self.limits} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.model_server", description="The cost of the middleware.")
    parser.add_argument("--rounds", type=int, default=600, help="pairs of rounds per body, a quarter of a second each")
    parser.add_argument("--only", choices=CASES, help="the section to measure; default: all")
    options = parser.parse_args(arguments)
    sections, broken = {}, False
    for case in [CASES[options.only]] if options.only else CASES.values():
        section, exceeded = _measure(case, options.rounds)
        sections[case.title] = section
        broken |= exceeded
    before = RESULTS.read_text() if RESULTS.exists() else ""
    text = joined(before, sections, [case.title for case in CASES.values()])
    RESULTS.write_text(f"{_HEAD}\n{text}\n", encoding="utf-8")
    print(text)
    return int(broken)


def _measure(case: Case, rounds: int) -> tuple[str, bool]:
    """The section of a case, and whether a limit is exceeded."""
    load = os.getloadavg()
    alone = costs(case)
    prompts = case.prompt is not None
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(serving(scratch, *FLAGS, middleware=False))
        measured = stack.enter_context(serving(scratch, *FLAGS, middleware=True, split=case.split, prompts=prompts))
        compared = [asyncio.run(_compare(bare, measured, case, body, rounds)) for body in case.bodies]
        counted = sum(measured.samples("serin_requests_total{").values())
        failures = sum(measured.samples("serin_middleware_failures_total").values())
        checked = sum(measured.samples("serin_checks_total{").values())
    sent = sum(each.requests for each in compared) + REQUESTS * len(case.bodies)
    if counted != sent or failures:
        raise SystemExit(f"bench: {sent} requests were sent, {counted:g} counted, {failures:g} failures; no result.")
    shares = " / ".join(_share(one.median, each.cpu_bare) for one, each in zip(alone, compared, strict=True))
    lines = [
        f"{rounds} pairs of rounds per body. Load: {load[0]:.0f} before, {os.getloadavg()[0]:.0f} after.",
        "",
        "| body | requests | throughput | API server's CPU | TTFT bare | median added | p99 added | limits |",
        "|---|---|---|---|---|---|---|---|",
        *(each.row() for each in compared),
        "",
        f"The middleware alone, around an application that only answers with {EVENTS} events, processor time:",
        "",
        "| body | added per request, median | highest of the rounds |",
        "|---|---|---|",
        *(f"| {each.body.name} | {each.median:.0f} µs | {each.highest:.0f} µs |" for each in alone),
        "",
        f"Against the API server's own time for a request it is {shares}: the most that a server bound by its API",
        f"process can lose. To the first token it adds about {max(one.highest for one in alone) / 1e3:.2f} ms at most.",
        f"Counted: {counted:g} of {sent} requests, no failure.",
    ]
    if case.checks:
        lines += ["", f"Results of checks: {checked:g}, of {len(case.checks) * counted:g} possible ones."]
    if not prompts:
        page = page_milliseconds()
        lines += [
            "",
            f"A page of /metrics with all 64 pairs in use takes {page:.0f} ms longer; with two revisions and one",
            f"epoch, about {page / 32:.1f} ms.",
        ]
    return "\n".join(lines), any(each.broken for each in compared)


async def _compare(bare: Server, measured: Server, case: Case, body: Body, rounds: int) -> Compared:
    numbers = iter(range(10**9))
    sides: dict[bool, list[Round]] = {False: [], True: []}
    for number in range(rounds + 1):
        # The same requests for both; the order swaps, so that neither always comes after the other.
        asked = [next(numbers) for _ in range(REQUESTS)]
        for side in (False, True) if number % 2 else (True, False):
            server, other = (measured, bare) if side else (bare, measured)
            requests = [request(body.made(each, system=None if side else case.bare_system)) for each in asked]
            with other.standing_still():
                before = server.cpu_seconds()
                done = await round_of(server.port, requests, CONNECTIONS)
            sides[side].append(replace(done, cpu=server.cpu_seconds() - before))
    # The first pair warms up.
    pairs = list(zip(sides[False][1:], sides[True][1:], strict=True))
    print(f"bench: {case.title}, {body.name} done", file=sys.stderr, flush=True)
    bare_rounds = [each for each, _ in pairs]
    spent = sum(each.cpu for each in bare_rounds)
    return Compared(
        body,
        REQUESTS * rounds,
        throughput=_estimate(pairs, _throughput),
        cpu=_estimate(pairs, _cpu),
        cpu_bare=spent / rounds / REQUESTS,
        bare=f"{_quantile(bare_rounds, 0.5) * 1e3:.1f} ms, {_quantile(bare_rounds, 0.99) * 1e3:.1f} ms",
        median=_estimate(pairs, lambda some: _difference(some, 0.5)),
        p99=_estimate(pairs, lambda some: _difference(some, 0.99)),
    )


def _share(added: float, whole: float) -> str:
    return f"{added / 1e6 / whole * 100:.1f} %"


Pairs = Sequence[tuple[Round, Round]]


def _throughput(pairs: Pairs) -> float:
    return statistics.median(measured.throughput / bare.throughput for bare, measured in pairs)


def _cpu(pairs: Pairs) -> float:
    return sum(measured.cpu for _, measured in pairs) / sum(bare.cpu for bare, _ in pairs)


def _difference(pairs: Pairs, share: float) -> float:
    """Milliseconds."""
    return (_quantile([each for _, each in pairs], share) - _quantile([each for each, _ in pairs], share)) * 1e3


def _quantile(rounds: Sequence[Round], share: float) -> float:
    times = sorted(seconds for each in rounds for seconds in each.first_tokens)
    return times[int(len(times) * share)]


def _estimate(pairs: Pairs, of: Callable[[Pairs], float]) -> Estimate:
    rng = random.Random(1)
    values = sorted(of(rng.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    return Estimate(of(pairs), values[int(0.025 * _RESAMPLES)], values[int(0.975 * _RESAMPLES)])


if __name__ == "__main__":
    sys.exit(main())
