"""The election on a real Lease: one candidate leads, another takes over, and a leader that cannot renew resigns."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.control_plane import api_tier
from sandbox.control_plane.api_tier import Handle
from serin.cluster.api_server import ApiServer
from serin.cluster.lease import Election, Timing

FAST = Timing(lease_duration=6.0, renew_deadline=3.0, retry_period=0.1)
"""For tests that wait until a leader loses its Lease."""
PATIENT = Timing(lease_duration=120.0, renew_deadline=60.0, retry_period=0.1)
"""For all others: no leader loses its Lease because the machine is busy."""
LONG = 60.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def api(api_server: Handle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    connection = await ApiServer.connect(5.0)
    yield connection
    await connection.close()


def candidate(
    api: ApiServer,
    lease: str,
    identity: str,
    timing: Timing = PATIENT,
    clock: Callable[[], float] = time.monotonic,
) -> Election:
    return Election(api, "default", lease, identity, timing=timing, clock=clock)


async def holder(api: ApiServer, lease: str) -> str:
    found = await api.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{lease}")
    return str(found["spec"]["holderIdentity"])


async def test_of_two_candidates_one_leads(api: ApiServer) -> None:
    one, two = candidate(api, "two", "one"), candidate(api, "two", "two")
    first, second = asyncio.create_task(one.acquire()), asyncio.create_task(two.acquire())
    done, waiting = await asyncio.wait({first, second}, timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert one.leading != two.leading
    assert await holder(api, "two") == ("one" if one.leading else "two")
    for task in waiting:
        task.cancel()


async def test_leader_that_renews_keeps_the_lease(api: ApiServer) -> None:
    clock = Clock()
    one, two = (candidate(api, "keeps", name, PATIENT, clock) for name in ("one", "two"))
    assert await one._try()
    for _ in range(20):
        clock.now += PATIENT.lease_duration / 10
        assert await one._try()
        assert not await two._try()
        assert (one.leading, two.leading) == (True, False)
    clock.now += PATIENT.lease_duration
    assert not one.leading
    assert await two._try()


async def test_released_lease_is_taken_over_at_once(api: ApiServer) -> None:
    one, two = candidate(api, "released", "one"), candidate(api, "released", "two")
    await asyncio.wait_for(one.acquire(), LONG)
    take = asyncio.create_task(two.acquire())
    await one.release()
    assert not one.leading
    await asyncio.wait_for(take, LONG)  # less than the Lease's duration
    assert two.leading
    await one.release()
    assert await holder(api, "released") == "two"


async def test_frozen_leader_is_replaced_after_expiry_and_then_resigns(api: ApiServer) -> None:
    soon = replace(PATIENT, lease_duration=FAST.lease_duration)  # it takes over soon, and keeps the Lease long
    one, two = candidate(api, "frozen", "one", FAST), candidate(api, "frozen", "two", soon)
    await asyncio.wait_for(one.acquire(), LONG)
    # Frozen: none of its code runs until it wakes.
    start = time.monotonic()
    await asyncio.wait_for(two.acquire(), LONG)
    assert time.monotonic() - start >= FAST.lease_duration
    assert not one.leading
    await asyncio.wait_for(one.hold(), LONG)
    await one.release()
    assert await holder(api, "frozen") == "two"
    assert two.leading


async def test_restarted_container_takes_its_own_lease_at_once(api: ApiServer) -> None:
    for _ in range(2):  # the second time in less than the Lease's duration
        await asyncio.wait_for(candidate(api, "restarted", "pod").acquire(), LONG)


async def test_leader_without_an_api_server_resigns_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_tier.start(tmp_path / "tier") as tier:
        monkeypatch.setenv("KUBECONFIG", str(tier.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        api = await ApiServer.connect(5.0)
        clock = Clock()
        one = candidate(api, "gone", "one", FAST, clock)
        await asyncio.wait_for(one.acquire(), LONG)
        tier.kill("kube-apiserver")
        holding = asyncio.create_task(one.hold())
        clock.now += FAST.renew_deadline - 0.1
        assert not await one._try()
        assert one.leading
        clock.now += 0.1  # long before the Lease expires
        assert not one.leading
        await asyncio.wait_for(holding, LONG)
        standby = asyncio.create_task(candidate(api, "gone", "two", FAST).acquire())
        done, _ = await asyncio.wait({standby}, timeout=2 * FAST.retry_period)
        assert not done, "a standby waits for the API server instead of ending"
        tier.run("kube-apiserver")
        tier.wait("kube-apiserver")
        await asyncio.wait_for(standby, LONG)
        await api.close()
