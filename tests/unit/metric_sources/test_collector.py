"""The collector: one read for all, news to those whom they concern, and never old evidence as if it were fresh."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from serin.metric_sources.collector import Collector
from serin.metric_sources.port import Key, Watch
from serin.rollout.snapshot import NO_EVIDENCE, Counts, Evidence

AT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
A = Watch("ns", "a", AT, ("r1",))
B = Watch("ns", "b", AT, ("r2",))
SEEN = Evidence(at=AT, since=AT, counts={"r1": Counts(3, 1)})


class Table:
    """A source that answers from a table."""

    def __init__(self, **evidence: Evidence) -> None:
        self.evidence = evidence
        self.reads: list[list[str]] = []
        self.error: Exception | None = None
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, Evidence]:
        self.reads.append([watch.name for watch in watches])
        self.asked.set()
        await self.answer.wait()
        if self.error:
            raise self.error
        return {watch.key: self.evidence.get(watch.name, Evidence(since=watch.since)) for watch in watches}


class Woken(list[Key]):
    """Who was woken."""


def collector(source: Table) -> tuple[Collector, Woken]:
    woken = Woken()
    return Collector(source, interval=0.01, woke=woken.append), woken


async def test_all_watches_are_read_at_once() -> None:
    source = Table(a=SEEN)
    one, woken = collector(source)
    one.set_watch(A)
    one.set_watch(B)
    await one.collect()
    assert source.reads == [["a", "b"]]
    assert one.evidence(A.key) == SEEN
    assert woken == [A.key, B.key]


async def test_only_news_wake() -> None:
    source = Table(a=SEEN)
    one, woken = collector(source)
    one.set_watch(A)
    await one.collect()
    await one.collect()
    assert woken == [A.key]
    source.evidence["a"] = Evidence(at=LATER, since=AT, counts={"r1": Counts(4, 1)})
    await one.collect()
    assert woken == [A.key, A.key]


async def test_an_error_keeps_what_was_seen_with_its_time() -> None:
    source = Table(a=SEEN)
    one, woken = collector(source)
    one.set_watch(A)
    await one.collect()
    source.evidence["a"] = Evidence(error="Away; check it.", since=AT)
    await one.collect()
    assert one.evidence(A.key) == Evidence("Away; check it.", AT, AT, {"r1": Counts(3, 1)})
    assert woken == [A.key, A.key]
    source.evidence["a"] = SEEN
    await one.collect()
    assert one.evidence(A.key) == SEEN


async def test_a_source_that_raises_is_an_error_for_everybody() -> None:
    source = Table()
    source.error = ZeroDivisionError("oops")
    one, _ = collector(source)
    one.set_watch(A)
    await one.collect()
    assert "see the operator's log" in str(one.evidence(A.key).error)


async def test_a_new_window_forgets_the_counts_of_the_old_one() -> None:
    one, _ = collector(Table(a=SEEN))
    one.set_watch(A)
    await one.collect()
    one.set_watch(Watch("ns", "a", LATER, ("r1",)))
    assert one.evidence(A.key) == NO_EVIDENCE


async def test_another_engine_in_the_same_window_keeps_the_counts() -> None:
    one, _ = collector(Table(a=SEEN))
    one.set_watch(A)
    await one.collect()
    one.set_watch(Watch("ns", "a", AT, ("r1",), ("e1",)))
    assert one.evidence(A.key) == SEEN


@pytest.mark.parametrize("change", ["dropped", "moved"])
async def test_an_answer_to_an_old_question_is_thrown_away(change: str) -> None:
    source = Table(a=SEEN)
    source.answer.clear()
    one, woken = collector(source)
    one.set_watch(A)
    reading = asyncio.create_task(one.collect())
    await source.asked.wait()
    if change == "dropped":
        one.drop(A.key)
    else:
        one.set_watch(Watch("ns", "a", LATER, ("r1",)))
    source.answer.set()
    await reading
    assert one.evidence(A.key) == NO_EVIDENCE
    assert woken == []


async def test_it_reads_at_once_for_a_new_watch_and_then_in_intervals_until_nobody_watches() -> None:
    source = Table(a=SEEN)
    one, _ = collector(source)
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    assert source.reads == []
    one.set_watch(A)
    async with asyncio.timeout(10):
        for _ in range(3):
            source.asked.clear()
            await source.asked.wait()
    one.drop(A.key)
    count = len(source.reads)
    source.asked.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.asked.wait()
    assert len(source.reads) == count
    running.cancel()
