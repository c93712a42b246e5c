"""The work queue: due times, at most one run per key, retries that do not delay other keys."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.errors import ClusterError
from serin.kube_types import Key
from serin.workqueue import FIRST_RETRY, FORGET, LAST_RETRY, Schedule, WorkQueue

A: Key = ("ns", "a")
B: Key = ("ns", "b")
RESYNC = 600.0


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(RESYNC)


def test_marked_key_is_due_at_once_and_runs_once_for_two_marks(schedule: Schedule) -> None:
    schedule.mark(A, 5.0)
    schedule.mark(A, 5.0)
    assert schedule.take(5.0) == A
    assert schedule.take(5.0) is None


def test_running_key_is_not_taken_again(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.mark(A, 1.0)
    assert schedule.take(1.0) is None
    schedule.done(A, 2.0, None)
    assert schedule.take(2.0) == A


def test_key_due_longest_comes_first(schedule: Schedule) -> None:
    schedule.mark(B, 1.0)
    schedule.mark(A, 2.0)
    assert [schedule.take(3.0), schedule.take(3.0)] == [B, A]


def test_key_runs_at_its_due_time_or_earlier_when_marked(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.done(A, 0.0, timedelta(seconds=30))
    assert schedule.next_due() == 30.0
    assert schedule.take(29.9) is None
    schedule.mark(A, 10.0)
    assert schedule.take(10.0) == A
    schedule.done(A, 10.0, timedelta(seconds=30))
    assert schedule.take(39.9) is None
    assert schedule.take(40.0) == A


def test_due_time_in_the_past_is_due_now(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.done(A, 1.0, timedelta(seconds=-5))
    assert schedule.take(1.0) == A


@given(st.tuples(st.text(min_size=1, max_size=63), st.text(min_size=1, max_size=40)))
def test_idle_key_runs_between_half_and_full_resync(key: Key) -> None:
    schedule = Schedule(RESYNC)
    schedule.mark(key, 0.0)
    schedule.take(0.0)
    schedule.done(key, 0.0, None)
    assert schedule.take(RESYNC / 2 - 1) is None
    assert schedule.take(RESYNC) == key


def test_resyncs_are_spread(schedule: Schedule) -> None:
    keys = [("ns", f"name-{number}") for number in range(1000)]
    for key in keys:
        schedule.mark(key, 0.0)
        schedule.take(0.0)
        schedule.done(key, 0.0, None)
    per_second: dict[int, int] = {}
    for tick in range(int(RESYNC) + 1):
        while schedule.take(float(tick)):
            per_second[tick] = per_second.get(tick, 0) + 1
    assert sum(per_second.values()) == len(keys)
    assert max(per_second.values()) < 20


def test_due_time_beyond_resync_does_not_delay_resync(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.done(A, 0.0, timedelta(days=1))
    assert schedule.take(RESYNC) == A


def test_retry_delay_doubles_up_to_a_minute(schedule: Schedule) -> None:
    now, waits = 0.0, []
    schedule.mark(A, now)
    for _ in range(10):
        assert schedule.take(now) == A
        waits.append(schedule.failed(A, now))
        assert schedule.take(now + waits[-1] - 0.01) is None
        now += waits[-1]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (waits[0], waits[-1]) == (FIRST_RETRY, LAST_RETRY)


def test_retry_comes_no_later_than_the_clock_changes_the_decision(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    for _ in range(9):
        schedule.take(1e6)
        assert schedule.failed(A, 0.0, timedelta(seconds=7)) <= 7.0
    schedule.take(1e6)
    assert schedule.failed(A, 0.0, timedelta(seconds=-7)) == FIRST_RETRY


def test_success_resets_the_retry_delay(schedule: Schedule) -> None:
    for now in (0.0, 10.0, 20.0):
        schedule.mark(A, now)
        schedule.take(now)
        schedule.failed(A, now)
    schedule.take(30.0)
    schedule.done(A, 30.0, timedelta(0))
    schedule.take(30.0)
    assert schedule.failed(A, 30.0) == FIRST_RETRY


def test_thousands_of_failures_do_not_overflow(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    for number in range(3000):
        schedule.take(number * LAST_RETRY)
        assert schedule.failed(A, number * LAST_RETRY) <= LAST_RETRY


def test_failing_key_that_marks_itself_runs_at_most_twice_a_second(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    runs = 0
    for step in range(1000):
        now = step / 100
        schedule.mark(A, now)
        if schedule.take(now):
            runs += 1
            schedule.mark(A, now)
            schedule.failed(A, now)
    assert runs == 20


def test_deleted_key_is_dropped_unless_marked_during_its_run(schedule: Schedule) -> None:
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.done(A, 0.0, FORGET)
    assert len(schedule) == 0
    assert schedule.take(10 * RESYNC) is None
    schedule.mark(A, 0.0)
    schedule.take(0.0)
    schedule.mark(A, 0.0)
    schedule.done(A, 0.0, FORGET)
    assert schedule.take(0.0) == A


def test_repeated_marks_do_not_grow_the_heap(schedule: Schedule) -> None:
    for number in range(10_000):
        schedule.mark(A, -float(number))
    assert len(schedule._heap) < 100
    assert schedule.take(0.0) == A
    assert schedule.take(0.0) is None


class Worked:
    """A reconcile that a test controls."""

    def __init__(self) -> None:
        self.started: list[Key] = []
        self.running: set[Key] = set()
        self.changed = asyncio.Condition()
        self.go: dict[Key, asyncio.Event] = {}
        self.answer: Callable[[Key], timedelta | None] = lambda _key: None

    async def __call__(self, key: Key) -> timedelta | None:
        assert key not in self.running
        self.running.add(key)
        await self._tell(key)
        try:
            if key in self.go:
                await self.go[key].wait()
            return self.answer(key)
        finally:
            self.running.discard(key)

    async def _tell(self, key: Key) -> None:
        async with self.changed:
            self.started.append(key)
            self.changed.notify_all()

    async def until(self, *keys: Key) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: sorted(self.started) == sorted(keys))


@asynccontextmanager
async def running(
    reconcile: Callable[[Key], Awaitable[timedelta | None]], **options: float
) -> AsyncIterator[WorkQueue]:
    queue = WorkQueue(reconcile, workers=2, limit=options.get("limit", 5.0))
    task = asyncio.create_task(queue.run())
    try:
        yield queue
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10)


async def test_keys_run_in_parallel_but_each_key_only_once() -> None:
    worked = Worked()
    worked.go[A] = asyncio.Event()
    async with running(worked) as queue:
        queue.mark(A)
        await worked.until(A)
        queue.mark(A)
        queue.mark(B)
        await worked.until(A, B)
        worked.go[A].set()
        await worked.until(A, A, B)


async def test_key_runs_at_its_due_time_without_a_mark() -> None:
    worked = Worked()
    answers = iter([timedelta(milliseconds=20), None])
    worked.answer = lambda _key: next(answers)
    async with running(worked) as queue:
        queue.mark(A)
        await worked.until(A, A)


@pytest.mark.parametrize(
    "error",
    [ClusterError("Away; try again."), ZeroDivisionError(), asyncio.CancelledError()],
    ids=lambda e: type(e).__name__,
)
async def test_any_exception_is_retried_and_other_keys_go_on(error: BaseException) -> None:
    worked = Worked()

    def answer(key: Key) -> timedelta | None:
        if worked.started.count(A) == 1 and key == A:
            raise error
        return None

    worked.answer = answer
    async with running(worked) as queue:
        queue.mark(A)
        queue.mark(B)
        await worked.until(A, A, B)


async def test_hanging_run_is_cancelled_and_retried() -> None:
    worked = Worked()
    worked.go[A] = asyncio.Event()
    async with running(worked, limit=0.05) as queue:
        queue.mark(A)
        await worked.until(A)
        worked_again = worked.until(A, A)
        await worked_again


async def test_dropped_key_is_not_counted() -> None:
    worked = Worked()
    worked.answer = lambda _key: FORGET
    done = asyncio.Event()
    queue = WorkQueue(worked, observed=lambda _outcome, _seconds: done.set())
    task = asyncio.create_task(queue.run())
    queue.mark(A)
    assert len(queue) == 1
    async with asyncio.timeout(10):
        await done.wait()
        while len(queue):  # noqa: ASYNC110 - the worker needs one more turn of the loop
            await asyncio.sleep(0)
    task.cancel()
