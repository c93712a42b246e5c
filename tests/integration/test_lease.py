"""The election on a real Lease: one leads, another takes over, and who cannot renew knows it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox import api_tier
from sandbox.api_tier import Handle
from serin.cluster.api_server import ApiServer
from serin.cluster.lease import Election, Timing

# Three seconds between giving up and expiry, and between a take-over and expiry: a busy machine needs some of them.
FAST = Timing(lease_duration=6.0, renew_deadline=3.0, retry_period=0.1)
LONG = 60.0


@pytest.fixture
async def api(api_server: Handle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    connection = await ApiServer.connect(5.0)
    yield connection
    await connection.close()


def candidate(api: ApiServer, lease: str, identity: str) -> Election:
    return Election(api, "default", lease, identity, timing=FAST)


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


async def test_a_leader_that_renews_keeps_the_lease_beyond_its_duration(api: ApiServer) -> None:
    one, two = candidate(api, "keeps", "one"), candidate(api, "keeps", "two")
    await asyncio.wait_for(one.acquire(), LONG)
    hold, take = asyncio.create_task(one.hold()), asyncio.create_task(two.acquire())
    done, _ = await asyncio.wait({hold, take}, timeout=1.5 * FAST.lease_duration)
    assert not done
    assert one.leading
    assert not two.leading
    hold.cancel()
    take.cancel()


async def test_a_released_lease_is_taken_over_at_once(api: ApiServer) -> None:
    one, two = candidate(api, "released", "one"), candidate(api, "released", "two")
    await asyncio.wait_for(one.acquire(), LONG)
    take = asyncio.create_task(two.acquire())
    start = time.monotonic()
    await one.release()
    assert not one.leading
    await asyncio.wait_for(take, LONG)
    assert two.leading
    assert time.monotonic() - start < FAST.lease_duration
    await one.release()
    assert await holder(api, "released") == "two"


async def test_a_frozen_leader_is_replaced_after_expiry_and_notices_when_it_wakes(api: ApiServer) -> None:
    one, two = candidate(api, "frozen", "one"), candidate(api, "frozen", "two")
    await asyncio.wait_for(one.acquire(), LONG)
    # Frozen: from here on not a line of it runs until it wakes.
    start = time.monotonic()
    await asyncio.wait_for(two.acquire(), LONG)
    assert time.monotonic() - start >= FAST.lease_duration
    assert not one.leading
    await asyncio.wait_for(one.hold(), LONG)
    await one.release()
    assert await holder(api, "frozen") == "two"
    assert two.leading


async def test_a_restarted_container_takes_its_own_lease_at_once(api: ApiServer) -> None:
    await asyncio.wait_for(candidate(api, "restarted", "pod").acquire(), LONG)
    start = time.monotonic()
    await asyncio.wait_for(candidate(api, "restarted", "pod").acquire(), LONG)
    assert time.monotonic() - start < FAST.lease_duration


async def test_a_leader_whose_api_server_is_gone_stops_leading_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_tier.start(tmp_path / "tier") as tier:
        monkeypatch.setenv("KUBECONFIG", str(tier.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        api = await ApiServer.connect(5.0)
        one = candidate(api, "gone", "one")
        await asyncio.wait_for(one.acquire(), LONG)
        tier.kill("kube-apiserver")
        start = time.monotonic()
        await asyncio.wait_for(one.hold(), LONG)
        assert time.monotonic() - start < FAST.lease_duration
        assert not one.leading
        standby = asyncio.create_task(candidate(api, "gone", "two").acquire())
        done, _ = await asyncio.wait({standby}, timeout=2 * FAST.retry_period)
        assert not done, "a standby waits for the API server instead of ending"
        tier.run("kube-apiserver")
        tier.wait("kube-apiserver")
        await asyncio.wait_for(standby, LONG)
        await api.close()
