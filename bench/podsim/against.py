"""The load buckets of a real model server beside those that its only client saw; called by `main`.

Sends streamed chat requests at rising concurrency to one pod and reads its /metrics before and after each level. Shown
is whether the pod agrees with the simulated ones: more load makes time to first token and time per token longer, and
the pod's load buckets are those that the client computes from its own clock. The pod must measure by load
(`measure` in its split document), and nobody else may send requests to it.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from bench.podsim.engine import mean_load
from bench.podsim.trial import LOADS, load_bucket

LEVELS = (1, 2, 4, 8, 16)
"""Requests in flight."""
PER_CONNECTION = 8
"""Requests that each connection of a level sends, one after the other."""
WARM_UP = 25
"""Requests that are sent first, one after the other: the pod does not count the times of its first 20."""
TIME_OUT = 300.0
"""Seconds for one request or one page; longer ones end the check."""
LARGEST_PAGE = 16 * 2**20
FARTHEST = 1.0
"""Buckets by which the pod's loads may differ from the client's, on average."""
METRICS = ("ttft", "tpot")
_SERIES = re.compile(r"^serin_latency_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Target:
    """The pod, and what its split document says."""

    host: str
    port: int
    model: str
    stamp: str | None = None
    """Value of the header `x-serin-epoch`; None: it is not sent."""
    loads_from: float = 1.0
    loads_ratio: float = 1.3
    tokens: int = 64
    """Tokens of each answer."""

    @classmethod
    def of(cls, url: str, model: str, split: Path | None = None) -> Target:
        """The target of `http://host:port`, with the token and the buckets of a split document.

        Raises:
            SystemExit: the URL has no host, or the document does not measure by load.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise SystemExit(f"bench: {url!r} is not the address of a pod; give http://host:port.")
        where = (parts.hostname, parts.port or 80, model)
        if split is None:
            return cls(*where)
        document = json.loads(split.read_text())
        if not (load := (document.get("measure") or {}).get("load")):
            raise SystemExit(
                f"bench: {split} has no measure.load; give a split document that asks for latencies by load."
            )
        stamp = f"1.{document['token']}" if document.get("epoch") is None else None
        return cls(*where, stamp=stamp, loads_from=load["from"], loads_ratio=load["ratio"])


@dataclass(frozen=True)
class Answer:
    """When one request was sent, had its first token, and ended, by the client's clock; and its tokens."""

    sent: float
    first: float
    ended: float
    tokens: int


@dataclass(frozen=True)
class Level:
    """What one concurrency showed."""

    concurrency: int
    seconds: dict[str, float]
    """By metric, the median over the requests."""
    client: dict[str, Counter[int]]
    """By metric, requests by the load bucket that the client computes."""
    pod: dict[str, Counter[int]]
    """By metric, requests by the load bucket that the pod counted."""

    def distance(self, metric: str) -> float:
        """By how many buckets the two differ on average, each in order; infinite if one side has no request."""
        if not (self.client[metric] and self.pod[metric]):
            return float("inf")
        ours, theirs = (list(each[metric].elements()) for each in (self.client, self.pod))
        at = (np.arange(100) + 0.5) / 100
        return float(np.abs(np.quantile(ours, at) - np.quantile(theirs, at)).mean())


@dataclass(frozen=True)
class Report:
    """The levels, and what does not fit."""

    FITS: ClassVar[str] = "More load is slower, and the pod's buckets are the client's (at most one apart on average)."
    levels: tuple[Level, ...]
    wrong: tuple[str, ...] = field(default=())

    def lines(self) -> Iterator[str]:
        """The report as text."""
        for level in self.levels:
            for metric in METRICS:
                yield (
                    f"{level.concurrency:3} in flight, {metric}: median {1e3 * level.seconds[metric]:.1f} ms; buckets "
                    f"of the client {_words(level.client[metric])}, of the pod {_words(level.pod[metric])}, "
                    f"{level.distance(metric):.2f} apart"
                )
        yield from self.wrong or (self.FITS,)

    def table(self) -> Iterator[str]:
        """The levels as rows of a Markdown table."""
        for level in self.levels:
            for metric in METRICS:
                client, pod = (_words(each[metric]) for each in (level.client, level.pod))
                yield (
                    f"| {level.concurrency} | {metric} | {1e3 * level.seconds[metric]:.1f} ms | {client} | {pod} | "
                    f"{level.distance(metric):.2f} |"
                )


async def check(target: Target, levels: Sequence[int] = LEVELS, per_connection: int = PER_CONNECTION) -> Report:
    """Send the requests of all levels and compare."""
    for _ in range(WARM_UP):
        await asyncio.wait_for(_ask(target, 0), TIME_OUT)
    found = []
    for level in levels:
        before = await _loads(target)
        answers = [each for some in await asyncio.gather(
            *(_connection(target, 1000 * level + n, per_connection) for n in range(level))
        ) for each in some]  # fmt: skip
        after = await _loads(target)
        pod = {metric: after[metric] - before[metric] for metric in METRICS}
        found.append(Level(level, _medians(answers), _buckets(target, answers), pod))
    return Report(tuple(found), tuple(disagreements(found)))


def disagreements(levels: Sequence[Level]) -> Iterator[str]:
    """What does not fit, in sentences."""
    for metric in METRICS:
        first, last = levels[0], levels[-1]
        if len(levels) > 1 and last.seconds[metric] <= first.seconds[metric]:
            yield (
                f"{metric}: with {last.concurrency} requests in flight the median is no longer than with "
                f"{first.concurrency}; raise the concurrency, or the pod does not behave like the simulated ones."
            )
        for level in levels:
            if not level.pod[metric]:
                yield (
                    f"{metric}: the pod counted no request by load at {level.concurrency} in flight; check `measure` "
                    "and the token of its split document."
                )
            elif level.distance(metric) > FARTHEST:
                yield (
                    f"{metric}: at {level.concurrency} in flight the pod's load buckets are "
                    f"{level.distance(metric):.2f} from the client's; check that nobody else sends requests."
                )
        for one, other in pairwise(levels):
            if _mean(other.pod[metric]) < _mean(one.pod[metric]) - FARTHEST:
                yield f"{metric}: the pod's load fell from {one.concurrency} to {other.concurrency} in flight."


def _mean(buckets: Counter[int]) -> float:
    return sum(bucket * n for bucket, n in buckets.items()) / max(1, buckets.total())


def _words(buckets: Counter[int]) -> str:
    return " ".join(f"{bucket}:{n}" for bucket, n in sorted(buckets.items())) or "none"


def _medians(answers: Sequence[Answer]) -> dict[str, float]:
    per_token = [(each.ended - each.first) / (each.tokens - 1) for each in answers if each.tokens > 1]
    return {
        "ttft": statistics.median(each.first - each.sent for each in answers),
        "tpot": statistics.median(per_token) if per_token else 0.0,
    }


def _buckets(target: Target, answers: Sequence[Answer]) -> dict[str, Counter[int]]:
    """By metric, the load buckets of the requests as the client saw them."""
    sent, first, ended = (np.array([getattr(each, name) for each in answers]) for name in ("sent", "first", "ended"))
    several = np.array([each.tokens > 1 for each in answers])
    loads = {
        "ttft": mean_load(sent, ended, sent, first),
        "tpot": mean_load(sent, ended, first, ended)[several],
    }
    return {
        metric: Counter(load_bucket(load, target.loads_from, target.loads_ratio).tolist())
        for metric, load in loads.items()
    }


async def _connection(target: Target, number: int, requests: int) -> list[Answer]:
    return [await asyncio.wait_for(_ask(target, 100 * number + n), TIME_OUT) for n in range(requests)]


async def _ask(target: Target, number: int) -> Answer:
    """Send one request and read its stream; every number has a prompt of its own, so that no prefix is cached."""
    body = json.dumps({
        "model": target.model,
        "messages": [{"role": "user", "content": f"{number}: write as many words as you can about this number."}],
        "max_tokens": target.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }).encode()  # fmt: skip
    stamp = f"x-serin-epoch: {target.stamp}\r\n" if target.stamp else ""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {target.host}\r\ncontent-type: application/json\r\n{stamp}"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    sent = time.perf_counter()
    first, tokens = 0.0, 0
    async for event in _events(target, head.encode() + body):
        if any((choice.get("delta") or {}).get("content") for choice in event.get("choices") or ()):
            first, tokens = first or time.perf_counter(), tokens + 1
        tokens = int((event.get("usage") or {}).get("completion_tokens") or tokens)
    ended = time.perf_counter()
    return Answer(sent, first or ended, ended, tokens)


async def _events(target: Target, request: bytes) -> Any:
    """The events of a stream, decoded."""
    reader, writer = await asyncio.open_connection(target.host, target.port, limit=1 << 20)
    try:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise SystemExit(f"bench: The pod refused the request with {head[:200]!r}. Check the name of the model.")
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        writer.close()


async def _loads(target: Target) -> dict[str, Counter[int]]:
    """By metric, the requests that the pod has counted in each load bucket."""
    page = await asyncio.wait_for(_page(target), TIME_OUT)
    found: dict[str, Counter[int]] = {metric: Counter() for metric in METRICS}
    for match in _SERIES.finditer(page):
        labels = dict(_LABEL.findall(match["labels"]))
        load = labels.get("load", "")
        if labels.get("metric") in found and load.isdecimal() and int(load) < LOADS:
            found[labels["metric"]][int(load)] += int(float(match["value"]))
    return found


async def _page(target: Target) -> str:
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nhost: {target.host}\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        chunks, size = [], 0
        while (chunk := await reader.read(1 << 16)) and size < LARGEST_PAGE:
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks).decode(errors="replace")
    finally:
        writer.close()
