"""The collector: one read for all, nothing taken twice or forgotten, and news to those whom they concern."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from serin.analysis.counts import NO_READINGS, Baseline, InFlight, Interval, MetricReadings, Tally
from serin.kube_types import Key
from serin.metric_sources import collector as collector_module
from serin.metric_sources.collector import FULL, MOST_INTERVALS, Collector
from serin.metric_sources.port import LONGEST, SHORTEST, Server, Watch

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
        return replace(more, intervals=(Interval(watch.read_until, end, counts, in_progress=self.in_progress),))


class Woken(list[Key]):
    """Who was woken."""


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
    while not happened():  # noqa: ASYNC110 - the collector tells nobody who is not woken
        await asyncio.sleep(0.001)


async def test_all_watches_of_a_server_are_read_at_once_and_each_server_by_itself() -> None:
    source = Table()
    one, _ = collector(source)
    elsewhere = replace(B, name="c", server=Server("http://else"))
    for watch in (A, B, elsewhere):
        one.set_watch(watch)
    await one.collect()
    assert sorted([watch.name for watch in read] for read in source.reads) == [["a", "b"], ["c"]]


async def test_intervals_follow_each_other_and_stay_until_they_are_acknowledged() -> None:
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


async def test_the_same_watch_again_acknowledges_nothing() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5)
    one.set_watch(A)
    assert one.readings(A.key).intervals == (grown(0, 5),)


@pytest.mark.parametrize("read_until", [7, -3, 99])
async def test_what_fits_no_boundary_is_read_again_from_there(read_until: float) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5, 10)
    one.set_watch(replace(A, read_until=at(read_until)))
    assert one.readings(A.key).intervals == ()
    await collected(one, source, 100)
    assert one.readings(A.key).intervals == (grown(read_until, 100),)


async def test_time_without_counts_is_one_interval_that_grows_and_may_be_cut_anywhere() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, 5, 10, 15)
    assert one.readings(A.key).intervals == (grown(0, 15, 0),)
    source.counts = {"a": 1}
    await collected(one, source, 20)
    one.set_watch(replace(A, read_until=at(10)))
    assert one.readings(A.key).intervals == (grown(10, 15, 0), grown(15, 20))


async def test_time_without_counts_wakes_rarely_and_the_first_of_it_at_once() -> None:
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


async def test_acknowledged_time_without_counts_still_wakes_rarely() -> None:
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
async def test_counts_of_something_else_are_forgotten_and_read_again(change: dict[str, object]) -> None:
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


async def test_the_order_of_tallies_and_a_draining_engine_change_no_count() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(replace(A, tallies=(TALLY, Tally("y"))))
    await collected(one, source, 5)
    one.set_watch(replace(A, tallies=(Tally("y"), TALLY), draining=("e0",)))
    assert one.readings(A.key).intervals == (grown(0, 5),)


async def test_merged_quiet_intervals_keep_the_newest_requests_in_progress() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    for seconds, hung in ((5, 3), (10, 4)):
        source.in_progress = {("r1", 1): hung}
        await collected(one, source, seconds)
    assert one.readings(A.key).intervals == (replace(grown(0, 10, 0), in_progress={("r1", 1): 4}),)


async def test_so_much_is_held_and_then_nothing_is_read_and_that_is_said_until_it_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Table()
    source.counts = {"a": 1}
    one, _ = collector(source)
    one.set_watch(A)
    await collected(one, source, *range(1, MOST_INTERVALS + 5))
    assert len(one.readings(A.key).intervals) == MOST_INTERVALS
    assert source.reads[-1][0].read_until is None
    assert one.readings(A.key).error is None  # whoever gets it for the first time takes it into account
    monkeypatch.setattr(collector_module, "PATIENCE", timedelta())
    assert one.readings(A.key).error == FULL
    one.set_watch(replace(A, read_until=at(MOST_INTERVALS)))
    assert one.readings(A.key) == NO_READINGS
    await collected(one, source, 1000)
    assert one.readings(A.key).error is None
    assert one.readings(A.key).intervals == (grown(MOST_INTERVALS, MOST_INTERVALS + LONGEST.total_seconds()),)


async def test_while_reading_fails_less_is_asked_for_and_more_again_once_it_works() -> None:
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


async def test_what_can_be_left_out_makes_less_be_asked_for_but_not_little() -> None:
    source = Table()
    one, _ = collector(source)
    one.set_watch(A)
    source.more = {"a": MetricReadings(left_out="too much")}
    await collected(one, source, *[10_000] * 5)
    assert [read[0].longest for read in source.reads] == [LONGEST, LONGEST / 2, *[LONGEST / 4] * 3]


async def test_an_error_leaves_what_was_read_and_wakes_when_it_comes_changes_and_goes() -> None:
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


async def test_what_was_left_out_is_told_once_until_it_is_read() -> None:
    source = Table()
    source.counts = {"a": 1}
    one, woken = collector(source)
    one.set_watch(A)
    source.more = {"a": MetricReadings(left_out="Refused; narrow it.")}
    await collected(one, source, 5)
    assert one.readings(A.key).left_out == "Refused; narrow it."
    source.more = {"a": MetricReadings(error="Away; check it.")}
    await collected(one, source, 10)
    assert one.readings(A.key).left_out == "Refused; narrow it.", "nothing was read, so nothing is known to be mended"
    source.more = {}
    await collected(one, source, 15)
    assert one.readings(A.key).left_out is None
    assert len(woken) == 3


async def test_a_source_that_raises_is_an_error_for_everybody() -> None:
    source = Table()
    source.error = ZeroDivisionError("a secret")
    one, _ = collector(source)
    one.set_watch(A)
    await one.collect()
    assert one.readings(A.key).error == "Evidence could not be read (ZeroDivisionError); see the operator's log."


async def test_a_baseline_is_asked_for_until_it_is_there_and_wakes_once() -> None:
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


async def test_requests_in_flight_wake_whenever_they_were_measured_anew() -> None:
    source = Table()
    one, woken = collector(source)
    one.set_watch(replace(A, read_until=None, draining=("e0",)))
    source.more = {"a": MetricReadings(in_flight={"e0": InFlight(0, AT)})}
    await collected(one, source, 5, 10)
    source.more = {"a": MetricReadings(in_flight={"e0": InFlight(0, at(5))})}
    await collected(one, source, 15)
    assert len(woken) == 2


@pytest.mark.parametrize("change", ["dropped", "moved", "acknowledged", "other tallies"])
async def test_an_answer_to_an_old_question_is_thrown_away(change: str) -> None:
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
    # What was acknowledged meanwhile changes nothing about what comes next.
    assert one.readings(A.key).intervals == ((grown(5, 10),) if change == "acknowledged" else ())


async def test_after_an_outage_pieces_are_read_one_after_the_other_without_waiting() -> None:
    source = Table()
    one = Collector(source, interval=3600)
    source.now = 2500
    one.set_watch(A)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        await until(lambda: reached(one, 2500))
    assert len(source.reads) == 5
    running.cancel()


async def test_it_reads_at_once_for_a_new_watch_and_then_in_intervals_until_nobody_watches() -> None:
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


async def test_acknowledging_is_no_reason_to_read_sooner() -> None:
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


async def test_a_server_that_is_slow_makes_nobody_else_wait() -> None:
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
        # Who comes while the server is busy is read as soon as it is not, and not an interval later.
        one._interval = 3600
        one.set_watch(replace(B, name="late", server=slow))
        source.answers[slow].set()
        await until(lambda: bool(one.readings(("ns", "late")).intervals))
    running.cancel()


async def test_a_defect_ends_the_loop_instead_of_being_lost() -> None:
    def broken(_key: Key) -> None:
        raise ZeroDivisionError

    source = Table()
    source.counts = {"a": 1}
    one = Collector(source, interval=0.01, woke=broken)
    one.set_watch(A)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await one.run()
