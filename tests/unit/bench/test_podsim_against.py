"""`python -m bench.podsim --against-vllm`, against a stub that streams slower the more requests it has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.podsim.against import METRICS, Level, Report, Target, check, disagreements
from bench.podsim.trial import load_bucket

TOKENS = 4


class Pod:
    """Streams `TOKENS` tokens, each 10 ms per request in flight, and counts the load of each request.

    So much that a busy machine does not turn the order of the medians around.
    """

    def __init__(self, *, shift: int = 0, counts: bool = True) -> None:
        self.shift, self.counts = shift, counts
        self.running, self.integral, self.at = 0, 0.0, time.perf_counter()
        self.loads: Counter[tuple[str, int]] = Counter()
        self.stamps: set[str] = set()

    def elapsed(self, change: int = 0) -> tuple[float, float]:
        """The time, and the integral of the number of requests over it; then `change` the number."""
        now = time.perf_counter()
        self.integral += self.running * (now - self.at)
        self.at = now
        self.running += change
        return now, self.integral

    def count(self, metric: str, since: tuple[float, float], until: tuple[float, float]) -> None:
        load = (until[1] - since[1]) / (until[0] - since[0])
        self.loads[metric, int(load_bucket(load, 1.0, 1.3)) + self.shift] += 1

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        with contextlib.closing(writer):
            if head.startswith("GET /metrics"):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.page().encode())
            else:
                await self.answer(writer, head)
            await writer.drain()

    async def answer(self, writer: asyncio.StreamWriter, head: str) -> None:
        self.stamps |= {line.split(": ")[1] for line in head.splitlines() if line.startswith("x-serin-epoch")}
        arrived = self.elapsed(+1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        first = arrived
        for number in range(TOKENS):
            await asyncio.sleep(0.01 * self.running + (0.004 if number == 0 else 0.002))
            writer.write(b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n')
            await writer.drain()
            first = self.elapsed() if number == 0 else first
        writer.write(b'data: {"choices":[],"usage":{"completion_tokens":%d}}\n\ndata: [DONE]\n\n' % TOKENS)
        ended = self.elapsed(-1)
        if self.counts:
            self.count("ttft", arrived, first)
            self.count("tpot", first, ended)

    def page(self) -> str:
        labels = 'revision="abcdef0123",epoch="1",metric="{}",cached="low",load="{}"'
        lines = [
            "serin_latency_requests_total{" + labels.format(metric, load) + "} " + f"{n}.0"
            for (metric, load), n in self.loads.items()
        ]
        return "\n".join(["# TYPE serin_latency_requests counter", *lines, 'other_total{load="3"} 7.0', ""])


@contextlib.asynccontextmanager
async def serving(pod: Pod) -> AsyncIterator[str]:
    server = await asyncio.start_server(pod.handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def checked(pod: Pod, split: Path | None = None) -> Report:
    async def run() -> Report:
        async with serving(pod) as url:
            return await check(Target.of(url, "m", split), levels=(1, 6), per_connection=4)

    return asyncio.run(run())


def test_pod_that_slows_down_with_load_and_counts_it_agrees() -> None:
    report = checked(Pod())

    assert report.wrong == ()
    assert [level.concurrency for level in report.levels] == [1, 6]
    assert [sum(level.pod["ttft"].values()) for level in report.levels] == [4, 24]
    assert any("pod's buckets are the client's" in line for line in report.lines())


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (Pod(shift=4), "from the client's"),
        (Pod(counts=False), "counted no request by load"),
    ],
)
def test_pod_that_differs_is_reported(pod: Pod, words: str) -> None:
    assert any(words in line for line in checked(pod).wrong)


def level(concurrency: int, milliseconds: float, load: int) -> Level:
    loads = {metric: Counter({load: 8}) for metric in METRICS}
    return Level(concurrency, dict.fromkeys(METRICS, milliseconds / 1e3), loads, loads)


@pytest.mark.parametrize(
    ("levels", "wrong"),
    [
        ([level(1, 10, 1), level(8, 20, 8)], ()),
        ([level(1, 20, 1), level(8, 20, 8)], ("no longer than with 1",)),
        ([level(1, 10, 8), level(8, 20, 1)], ("load fell from 1 to 8",)),
        ([level(4, 10, 5)], ()),
    ],
)
def test_more_load_must_be_slower_and_counted_higher(levels: list[Level], wrong: tuple[str, ...]) -> None:
    found = list(disagreements(levels))

    assert len(found) == len(wrong) * len(METRICS)
    assert all(any(words in line for line in found) for words in wrong)


def test_token_of_the_split_document_is_sent(tmp_path: Path) -> None:
    path, pod = tmp_path / "split.json", Pod()
    path.write_text(json.dumps({"epoch": None, "token": "ab" * 8, "measure": {"load": {"from": 1.0, "ratio": 1.3}}}))

    checked(pod, path)

    assert pod.stamps == {"1." + "ab" * 8}


@pytest.mark.parametrize("url", ["https://host", "host:80", ""])
def test_address_that_is_no_pod_is_refused(url: str) -> None:
    with pytest.raises(SystemExit, match="give http"):
        Target.of(url, "m")


def test_split_document_without_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"epoch": None, "token": "ab" * 8}))

    with pytest.raises(SystemExit, match=r"no measure\.load"):
        Target.of("http://host:1", "m", path)
