"""The collector: one read for all watches, no interval lost or repeated, and wake-ups only if needed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from serin.analysis.counts import (
    NO_READINGS,
    Baseline,
    InFlight,
    Interval,
    MetricReadings,
    ShownDocument,
    Tally,
)
from serin.kube_types import Key
from serin.metric_sources import unacknowledged
from serin.metric_sources.collector import Collector
from serin.metric_sources.port import LONGEST, SHORTEST, Server, Watch
from serin.metric_sources.unacknowledged import BACKLOG, MAX_INTERVALS

AT = datetime(2026, 1, 1, tzinfo=UTC)
TALLY = Tally("x_total")
A = Watch(AT, (("r1", "e1"),), (TALLY,), namespace="ns", name="a")
B = Watch(AT, (("r2", "e1"),), (TALLY,), namespace="ns", name="b")
BASE = Baseline(AT, 1.0)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def grown(begin: float, end: float, count: int = 1) -> Interval:
    return Interval(at(begin), at(end), {TALLY: {("r1", None, ""): count}} if count else {})


class Table:
    """A source whose intervals reach until now, with as many events as are in the table."""

    def __init__(self) -> None:
        self.now = 5.0
        self.counts: dict[str, int] = {}
        self.more: dict[str, MetricReadings] = {}
        self.in_progress: dict[tuple[str, int], int] | None = None
        self.sampled: dict[str] = {}
        self.reads: list[list[Watch]] = []
        self.error: Exception | None = None
        self.asked = asyncio.Event()
        self.answers: dict[Server | None, asyncio.Event] = {}

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, MetricReadings]:
        self.reads.append(list(watches))
        self.asked.set()
        now = self.now
        if watches[0].server in self.answers:
            await self.answers[watches[0].server].wait()
        if self.error:
            raise self.error
        return {watch.key: self._one(watch, at(now)) for watch in watches}

    def _one(self, watch: Watch, now: datetime) -> MetricReadings:
        more = self.more.get(watch.name, NO_READINGS)
        if watch.read_until is None or now <= watch.read_until or more.error:
            return more
        end = min(now, watch.read_until + watch.longest)
        count = self.counts.get(watch.name, 0)
        counts = {TALLY: {("r1", None, ""): count}} if count else {}
        interval = Interval(watch.read_until, end, counts, in_progress=self.in_progress, sampled=self.sampled)
        return replace(more, intervals=(interval,))


class Woken(list[Key]):
    """The keys that were woken, in order."""


def collector(source: Table) -> tuple[Collector, Woken]:
    woken = Woken()
    return Collector(source, interval=0.01, woke=woken.append), woken


async def collected(one: Collector, source: Table, *nows: float) -> None:
    for now in nows:
        source.now = now
        await one.collect()


def reached(one: Collector, seconds: float) -> bool:
    intervals = one.readings(A.key).intervals
    return bool(intervals) and intervals[-1].end >= at(seconds)


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 - without a wake-up there is nothing to wait for
        await asyncio.sleep(0.001)


async def test_watches_of_a_server_share_a_read_and_servers_do_not() -> None:
    source = Table()
    one, _ = collector(source)
    elsewhere = replace(B, name="c", server=Server("http://else"))
    for watch in (A, B, elsewhere):
        one.set_watch(watch)
    await one.collect()
    assert sorted([watch.name for watch in read] for read in source.reads) == [["a", "b"], ["c"]]


async def test_intervals_have_no_gaps_and_stay_until_acknowledged() -> None:
    source = Table()
    source.counts = {"a": 2}
    one, woken = collector(source)
    one.set_watch(A)
    await collected(one, source, 5, 10, 15)
    assert one.readings(A.key).intervals == (grown(0, 5, 2), grown(5, 10, 2), grown(10, 15, 2))
    assert woken == [A.key] * 3
    one.set_watch(replace(A, read_until=at(10)))
    assert one.readings(A.key).intervals == (grown(10, 15, 2),)
    one.set_watch(replace(A, read_until=at(15)))
    assert one.readings(A.key).intervals == ()
    await collected(one, source, 20)
    assert one.readings(A.key).intervals == (grown(15, 20, 2),)


async def test_same_watch_again_acknowledges_nothing() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5)
    one.set_watch(A)
    assert one.readings(A.key).intervals == (grown(0, 5),)


@pytest.mark.parametrize("read_until", [7, -3, 99])
async def test_position_between_boundaries_is_read_again_from_there(read_until: float) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5, 10)
    one.set_watch(replace(A, read_until=at(read_until)))
    assert one.readings(A.key).intervals == ()
    await collected(one, source, 100)
    assert one.readings(A.key).intervals == (grown(read_until, 100),)


async def test_idle_time_is_one_interval_that_can_be_cut_anywhere() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5, 10, 15)
    assert one.readings(A.key).intervals == (grown(0, 15, 0),)
    source.counts = {"a": 1}
    await collected(one, source, 20)
    one.set_watch(replace(A, read_until=at(10)))
    assert one.readings(A.key).intervals == (grown(10, 15, 0), grown(15, 20))


async def test_source_without_newer_sample_is_reported_until_one_comes() -> None:
    source = Table()
    one, _ = collector(source)
    assert one.watched(A.key) is None
    one.set_watch(A)
    assert one.watched(A.key) == A
    assert not one.readings(A.key).nothing_new, "it was not asked yet"
    await collected(one, source, 5, 5)
    assert one.readings(A.key).nothing_new
    await collected(one, source, 10)
    assert not one.readings(A.key).nothing_new
    one.set_watch(replace(A, read_until=at(-60)))
    assert not one.readings(A.key).nothing_new


async def test_idle_time_wakes_at_once_and_then_rarely() -> None:
    source = Table()
    one, woken = collector(source)
    one.set_watch(A)
    seen = []
    for now in range(5, 75, 5):
        before = len(woken)
        await collected(one, source, now)
        if len(woken) > before:
            seen.append(now)
    assert seen == [5, 35, 65]


async def test_acknowledged_idle_time_still_wakes_rarely() -> None:
    source = Table()
    one, woken = collector(source)
    one.set_watch(A)
    for now in range(5, 65, 5):
        await collected(one, source, now)
        one.set_watch(replace(A, read_until=at(now)))
    assert len(woken) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"tallies": (TALLY, Tally("y_total"))},
        {"engine_of": (("r1", "e1"), ("r9", "e9"))},
        {"server": Server("http://else")},
        {"read_until": None},
    ],
)
async def test_counts_of_another_watch_are_dropped_and_read_again(change: dict[str, object]) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5)
    changed: Watch = replace(A, **change)  # type: ignore[arg-type]
    one.set_watch(changed)
    assert one.readings(A.key).intervals == ()
    await collected(one, source, 10)
    assert one.readings(A.key).intervals == ((grown(0, 10),) if changed.read_until else ())


async def test_order_of_tallies_and_draining_engine_keep_the_counts() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(replace(A, tallies=(TALLY, Tally("y"))))
    await collected(one, source, 5)
    one.set_watch(replace(A, tallies=(Tally("y"), TALLY), draining=("e0",)))
    assert one.readings(A.key).intervals == (grown(0, 5),)


async def test_merged_quiet_intervals_keep_what_the_newest_one_says() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    for seconds, hung in ((5, 3), (10, 4)):
        source.in_progress = {("r1", 1): hung}
        source.sampled = {"r1": {"pod": at(seconds - 1)}}
        await collected(one, source, seconds)
    assert one.readings(A.key).intervals == (
        replace(grown(0, 10, 0), in_progress={("r1", 1): 4}, sampled={"r1": {"pod": at(9)}}),
    )


async def test_full_backlog_stops_reading_and_becomes_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, *range(1, MAX_INTERVALS + 5))
    assert len(one.readings(A.key).intervals) == MAX_INTERVALS
    assert source.reads[-1][0].read_until is None
    assert one.readings(A.key).error is None  # the reconcile that gets them first can still persist them
    monkeypatch.setattr(unacknowledged, "BACKLOG_GRACE", timedelta())
    assert one.readings(A.key).error == BACKLOG
    one.set_watch(replace(A, read_until=at(MAX_INTERVALS)))
    assert one.readings(A.key) == NO_READINGS
    await collected(one, source, 1000)
    assert one.readings(A.key).error is None
    assert one.readings(A.key).intervals == (grown(MAX_INTERVALS, MAX_INTERVALS + LONGEST.total_seconds()),)


async def test_failing_reads_shorten_the_interval_and_successes_lengthen_it() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    source.more = {"a": MetricReadings(error="too much")}
    await collected(one, source, *[10_000] * 6)
    assert [read[0].longest for read in source.reads] == [LONGEST / 2**n for n in range(4)] + [SHORTEST] * 2
    source.more = {}
    await collected(one, source, *[10_000] * 3)
    assert [read[0].longest for read in source.reads[-3:]] == [SHORTEST, 2 * SHORTEST, 4 * SHORTEST]
    assert reached(one, (SHORTEST * 7).total_seconds())


async def test_refused_optional_tally_shortens_the_interval_to_a_quarter() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    source.more = {"a": MetricReadings(left_out="too much")}
    await collected(one, source, *[10_000] * 5)
    assert [read[0].longest for read in source.reads] == [LONGEST, LONGEST / 2, *[LONGEST / 4] * 3]


async def test_error_keeps_the_readings_and_wakes_on_each_change() -> None:
    source = Table()
    source.counts = {"a": 1}
    flying = {"e0": InFlight(3, AT)}
    one, woken = collector(source)
    one.set_watch(replace(A, draining=("e0",)))
    source.more = {"a": MetricReadings(in_flight=flying)}
    await collected(one, source, 5)
    source.more = {"a": MetricReadings(error="Away; check it.")}
    await collected(one, source, 10, 15)
    assert one.readings(A.key) == MetricReadings("Away; check it.", (grown(0, 5),), None, flying)
    assert len(woken) == 2
    source.more = {"a": MetricReadings(error="Slow; check it.")}
    await collected(one, source, 20)
    assert len(woken) == 3
    source.more, source.counts = {"a": MetricReadings(in_flight=flying)}, {}
    await collected(one, source, 25)
    assert one.readings(A.key) == MetricReadings(None, (grown(0, 5), grown(5, 25, 0)), None, flying)
    assert len(woken) == 4


async def test_left_out_tally_wakes_once_until_it_is_read() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, woken = collector(source)
    one.set_watch(A)
    source.more = {"a": MetricReadings(left_out="Refused; narrow it.")}
    await collected(one, source, 5)
    assert one.readings(A.key).left_out == "Refused; narrow it."
    source.more = {"a": MetricReadings(error="Away; check it.")}
    await collected(one, source, 10)
    assert one.readings(A.key).left_out == "Refused; narrow it.", "nothing was read, so it may still be refused"
    source.more = {}
    await collected(one, source, 15)
    assert one.readings(A.key).left_out is None
    assert len(woken) == 3


async def test_source_that_raises_is_an_error_for_all_watches() -> None:
    source = Table()
    source.error = ZeroDivisionError("a secret")
    one, _ = collector(source)
    one.set_watch(A)
    await one.collect()
    assert (
        one.readings(A.key).error
        == "Reading metrics failed with an internal error (ZeroDivisionError); see the operator's log."
    )


async def test_baseline_is_read_until_present_and_wakes_once() -> None:
    source = Table()
    one, woken = collector(source)
    wanting = replace(A, read_until=None, baseline_of="r1")
    one.set_watch(wanting)
    await collected(one, source, 5)
    fresh = replace(BASE, at=datetime.now(UTC))
    source.more = {"a": MetricReadings(baseline=fresh)}
    await collected(one, source, 10, 15)
    assert [read[0].baseline_of for read in source.reads] == ["r1", "r1", None]
    assert one.readings(A.key).baseline == fresh
    assert woken == [A.key]
    one.set_watch(replace(wanting, baseline_of="r2"))
    assert one.readings(A.key).baseline is None


async def test_new_measurement_of_requests_in_flight_wakes() -> None:
    source = Table()
    one, woken = collector(source)
    one.set_watch(replace(A, read_until=None, draining=("e0",)))
    source.more = {"a": MetricReadings(in_flight={"e0": InFlight(0, AT)})}
    await collected(one, source, 5, 10)
    source.more = {"a": MetricReadings(in_flight={"e0": InFlight(0, at(5))})}
    await collected(one, source, 15)
    assert len(woken) == 2


async def test_pod_that_switches_wakes_and_a_newer_sample_of_it_does_not() -> None:
    source = Table()
    one, woken = collector(source)
    one.set_watch(replace(A, read_until=None, documents_of=("e0",), leaving=("r1",)))
    shown = {"e0": {"pod": ShownDocument(frozenset({"old"}), AT)}}
    source.more = {"a": MetricReadings(documents=shown)}
    await collected(one, source, 5)
    source.more = {"a": MetricReadings(documents={"e0": {"pod": ShownDocument(frozenset({"old"}), at(5))}})}
    await collected(one, source, 10)
    assert len(woken) == 1
    assert one.readings(A.key).documents["e0"]["pod"].at == at(5)
    source.more = {"a": MetricReadings(documents={"e0": {"pod": ShownDocument(frozenset({"new"}), at(10))}})}
    await collected(one, source, 15)
    source.more = {"a": replace(source.more["a"], in_progress={"r1": 0.0})}
    await collected(one, source, 20)
    assert len(woken) == 3
    one.set_watch(replace(A, read_until=None))
    assert (one.readings(A.key).documents, one.readings(A.key).in_progress) == ({}, {})


@pytest.mark.parametrize("change", ["dropped", "moved", "acknowledged", "other tallies"])
async def test_answer_to_an_earlier_watch_is_dropped(change: str) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5)
    source.answers[None] = asyncio.Event()
    source.asked.clear()
    source.now = 10
    reading = asyncio.create_task(one.collect())
    await source.asked.wait()
    match change:
        case "dropped":
            one.drop(A.key)
        case "moved":
            one.set_watch(replace(A, read_until=at(3)))
        case "acknowledged":
            one.set_watch(replace(A, read_until=at(5)))
        case _:
            one.set_watch(replace(A, tallies=(Tally("y"),)))
    source.answers[None].set()
    await reading
    # An acknowledgement during the read does not change what comes next.
    assert one.readings(A.key).intervals == ((grown(5, 10),) if change == "acknowledged" else ())


async def test_intervals_after_an_outage_are_read_without_waiting() -> None:
    source = Table()
    one = Collector(source, interval=3600)
    source.now = 2500
    one.set_watch(A)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        await until(lambda: reached(one, 2500))
    assert len(source.reads) == 5
    running.cancel()


async def test_new_watch_is_read_at_once_and_then_in_intervals() -> None:
    source = Table()
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


async def test_acknowledgement_does_not_read_sooner() -> None:
    source = Table()
    source.counts = {"a": 1}
    one = Collector(source, interval=3600)
    one.set_watch(A)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        await until(lambda: bool(one.readings(A.key).intervals))
    source.now = 10
    one.set_watch(replace(A, read_until=at(5)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(source.reads) == 1
    running.cancel()


async def test_slow_server_does_not_delay_others() -> None:
    source = Table()
    slow = Server("http://slow")
    source.answers[slow] = asyncio.Event()
    source.counts = {"a": 1, "b": 1}
    one, _ = collector(source)
    one.set_watch(replace(B, server=slow))
    one.set_watch(A)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        for now in (5, 10, 15):
            source.now = now
            await until(partial(reached, one, now))
        assert one.readings(B.key).intervals == ()
        # A watch that is set while the server is busy is read right afterwards, not an interval later.
        one._interval = 3600
        one.set_watch(replace(B, name="late", server=slow))
        source.answers[slow].set()
        await until(lambda: bool(one.readings(("ns", "late")).intervals))
    running.cancel()


async def test_defect_ends_the_loop() -> None:
    def broken(_key: Key) -> None:
        raise ZeroDivisionError

    source = Table()
    source.counts = {"a": 1}
    one = Collector(source, interval=0.01, woke=broken)
    one.set_watch(A)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await one.run()
