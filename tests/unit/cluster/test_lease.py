"""Leader election: `leading` without answers of the API server, and when a standby may take the Lease."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serin.cluster.lease import Election, Timing
from serin.errors import ClusterError, Conflict, NotFound

TIMING = Timing(lease_duration=15, renew_deadline=10, retry_period=2)


class Server:
    """An API server with one Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.before: Callable[[str], None] = lambda _method: None

    async def request(self, method: str, _path: str, *, body: Any = None, limit: float) -> dict[str, Any]:
        assert 0 < limit < TIMING.renew_deadline / 2
        self.before(method)
        if method == "GET":
            if self.lease is None:
                raise NotFound("No Lease; create it.")
            return self.lease
        if (method == "POST") != (self.lease is None):
            raise Conflict("It is there already; look again.")
        if method == "PUT" and body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict("It has changed; look again.")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.lease


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def candidate(server: Server, clock: Clock, identity: str) -> Election:
    return Election(server, "ns", "serin", identity, timing=TIMING, clock=clock)  # type: ignore[arg-type]


def away(_method: str) -> None:
    raise ClusterError("Away; try again.")


async def test_leadership_ends_by_the_clock_alone(server: Server, clock: Clock) -> None:
    one = candidate(server, clock, "one")
    assert not one.leading
    assert await one._try()
    clock.now += 9.9
    assert one.leading
    clock.now += 0.1
    assert not one.leading


async def test_leadership_counts_from_the_time_the_request_was_sent(server: Server, clock: Clock) -> None:
    def slow(method: str) -> None:
        if method == "PUT":
            clock.now += 8

    one = candidate(server, clock, "one")
    await one._try()
    server.before = slow
    assert await one._try()
    clock.now += 2
    assert not one.leading


async def test_holder_renews_while_requests_succeed(server: Server, clock: Clock) -> None:
    renewals = 0

    def count(method: str) -> None:
        nonlocal renewals
        renewals += method == "PUT"
        clock.now += TIMING.retry_period / 2
        if renewals > 50:
            raise ClusterError("Away; try again.")

    one = Election(server, "ns", "serin", "one", timing=replace(TIMING, retry_period=0), clock=clock)  # type: ignore[arg-type]
    assert await one._try()
    server.before = count
    await one.hold()
    assert renewals > 50
    assert clock.now > 100 + 3 * TIMING.lease_duration
    assert not one.leading


async def test_one_failed_renewal_keeps_leadership(server: Server, clock: Clock) -> None:
    one = candidate(server, clock, "one")
    await one._try()
    server.before = away
    clock.now += 4
    assert not await one._try()
    assert one.leading


async def test_takeover_needs_the_whole_duration_without_a_change(server: Server, clock: Clock) -> None:
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one._try()
    assert not await two._try()
    clock.now += 14.9
    assert not await two._try()
    clock.now += 0.1
    assert await two._try()
    assert two.leading
    assert not one.leading
    assert server.lease
    assert server.lease["spec"]["leaseTransitions"] == 1


async def test_renewal_restarts_the_wait_of_a_standby(server: Server, clock: Clock) -> None:
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one._try()
    await two._try()
    clock.now += 9
    await one._try()
    clock.now += 9
    assert not await two._try()


async def test_one_of_two_standbys_wins_an_expired_lease(server: Server, clock: Clock) -> None:
    one, two, three = (candidate(server, clock, name) for name in ("one", "two", "three"))
    await one._try()
    await two._try()
    await three._try()
    clock.now += 15

    def overtaken(method: str) -> None:
        # Between the read and the write of `three`, `two` has taken the Lease.
        if method == "PUT" and server.lease and server.lease["spec"]["holderIdentity"] == "one":
            server.version += 1

    server.before = overtaken
    assert not await three._try()
    assert not three.leading


async def test_released_lease_is_taken_at_the_next_attempt(server: Server, clock: Clock) -> None:
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one._try()
    await two._try()
    await one.release()
    assert not one.leading
    assert await two._try()


async def test_release_does_not_change_a_lease_of_another_holder(server: Server, clock: Clock) -> None:
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    await one._try()
    await two._try()
    clock.now += 15
    await two._try()
    await one.release()
    assert server.lease
    assert server.lease["spec"]["holderIdentity"] == "two"


async def test_release_without_answer_raises_nothing(server: Server, clock: Clock) -> None:
    one = candidate(server, clock, "one")
    await one._try()
    server.before = away
    await one.release()
    assert not one.leading


async def test_reached_is_true_after_the_first_answer(server: Server, clock: Clock) -> None:
    one, two = candidate(server, clock, "one"), candidate(server, clock, "two")
    server.before = away
    await two._try()
    assert not two.reached
    server.before = lambda _method: None
    await one._try()
    await two._try()
    assert two.reached
    assert not two.leading
