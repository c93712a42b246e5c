"""Counting where a second server, late samples, another clock or relabelling stand between pods and Serin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_api_client import PrometheusConnect

from sandbox.control_plane.api_tier import Handle
from serin.analysis.counts import Tally
from serin.analysis.presets import ERROR_MARGIN
from serin.evidence.metric import MetricParameters
from serin.evidence.noise import Noise
from serin.evidence.slices import Counts
from serin.metric_sources.prometheus import Prometheus
from tests.integration.counting.rollouts import TALLY, scraped, two, watch
from tests.integration.counting.servers import delayed_writes, other_clock, second_prometheus
from tests.integration.scraped import LONG, Pod, Pods, Rollout, settings


async def test_pods_scraped_by_two_prometheus_servers_count_once(pods: Pods, tier: Handle, tmp_path: Path) -> None:
    """One server scrapes the pods itself and gets what another one scraped, under another replica's name."""
    one, other = await two(pods)
    own = (
        "global: {scrape_interval: 1s, external_labels: {prometheus_replica: b}}\nscrape_configs:\n- job_name: pods\n"
        f"  static_configs:\n{pods.targets(one.name, other.name)}"
    )
    with second_prometheus(tier, tmp_path, own) as url, pods.written_to(f"{url}/api/v1/write"):
        source = Prometheus(settings(url, evidence_lag=4.0))
        up = f'up{{instance=~"{one.name}|{other.name}",prometheus_replica=""}}'
        async with asyncio.timeout(LONG):
            while len(PrometheusConnect(url).custom_query(up)) < 2:  # noqa: ASYNC110 - it is in Prometheus
                await asyncio.sleep(0.1)
        rollout = Rollout(source, watch())
        (stable, _), (canary, _) = rollout.watch.engine_of
        truth = 0
        for turn in range(6):
            for pod in (one, other):
                pod.count(stable, by=10)
                truth += 10
            one.count(canary, "error", by=turn)
            await asyncio.gather(one.scraped(2), other.scraped(2))
            await rollout.tick()
        # Each of the two servers has its own scrapes.
        await asyncio.gather(one.scraped(3), other.scraped(3))
        await rollout.past()
        source.close()
    assert (rollout.of(stable), rollout.of(canary, "error")) == (truth, sum(range(6)))
    assert rollout.errors == []
    assert any("under prometheus_replica" in warning for warning in rollout.last.warnings), rollout.last.warnings


@pytest.mark.parametrize("every", [0.0, 5.0], ids=["steadily", "in bursts"])
async def test_samples_of_a_slow_remote_write_are_counted_and_reported(
    pods: Pods, tier: Handle, tmp_path: Path, every: float
) -> None:
    """Samples can be queried four seconds after their time or later; the lag that is set is one scrape, one second."""
    one, other = await two(pods)
    with (
        second_prometheus(tier, tmp_path, "global: {}\n") as url,
        delayed_writes(url, 4.0, every=every) as slow,
        pods.written_to(slow),
    ):
        source = Prometheus(settings(url, collect_interval=0.5))
        begun = replace(watch(requests=TALLY), read_until=None)
        ended = asyncio.Event()

        async def traffic() -> None:
            while not ended.is_set():
                for pod, by in ((one, 3), (other, 4)):
                    pod.count(begun.engine_of[0][0], by=by)
                    pod.count(begun.engine_of[1][0], "error")
                await asyncio.sleep(0.1)

        working = asyncio.create_task(traffic())
        # The canary's pods load: the server is read already, so it becomes known how late its samples come.
        async with asyncio.timeout(LONG):
            while not late((await source.read([begun]))[begun.key].warnings):  # noqa: ASYNC110 - no waker
                await asyncio.sleep(0.25)
        began = datetime.now(UTC).replace(microsecond=0)
        rollout = Rollout(source, replace(begun, read_until=began))
        for _ in range(40):
            await rollout.tick()
            await asyncio.sleep(0.25)
        ended.set()
        await working
        await scraped(one, other)
        await rollout.past()
        warnings, at = rollout.last.warnings, rollout.at
        source.close()
    assert at
    for revision, _ in begun.engine_of:
        assert rollout.of(revision) == grown(one, revision, began, at) > 100
    assert late(warnings)
    assert rollout.errors == []


def late(warnings: Sequence[str]) -> bool:
    return any(each.startswith("Samples can be queried up to ") for each in warnings)


def grown(pod: Pod, revision: str, begin: datetime, end: datetime) -> int:
    """By how much the counters of a revision grew, as the server knows that scrapes this pod and all others."""

    def total(at: datetime) -> float:
        query = f'sum(last_over_time(serin_requests_total{{revision="{revision}"}}[5m]))'
        found = pod.prometheus.custom_query(query, params={"time": at.timestamp()})
        return float(found[0]["value"][1]) if found else 0.0

    return round(total(end) - total(begin))


@pytest.mark.parametrize("ahead", [-10.0, 10.0], ids=["behind", "ahead"])
async def test_requests_are_counted_once_whatever_the_clock(pods: Pods, tier: Handle, ahead: float) -> None:
    assert tier.prometheus_url
    one, other = await two(pods)
    with other_clock(tier.prometheus_url, ahead) as url:
        source = Prometheus(settings(url))
        rollout = Rollout(source, watch())
        (stable, _), (canary, _) = rollout.watch.engine_of
        # What the server stamps as later than the beginning is counted.
        rollout.at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ahead)
        for _ in range(6):
            for pod in (one, other):
                pod.count(stable, by=10)
            other.count(canary, "error", by=2)
            await scraped(one, other)
            await rollout.tick()
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        await rollout.past(moment)
        warnings, interval = rollout.last.warnings, rollout.last
        source.close()
    assert (rollout.of(stable), rollout.of(canary, "error")) == (120, 12)
    side = "ahead of" if ahead > 0 else "behind"
    assert f"Prometheus' clock is 10 s {side} the operator's, so counts come late" in " ".join(warnings)
    assert rollout.errors == []
    assert all(each.ahead == timedelta() or ahead > 0 for each in interval.intervals)


async def test_bound_that_is_spelled_otherwise_and_dropped_label_count_once(pods: Pods, source: Prometheus) -> None:
    """A million requests before; then `1.0` becomes `1`, then a label is dropped, then both come back."""
    one, other = await two(pods)
    buckets = Tally("serin_respelled_seconds_bucket", by="le")
    rollout = Rollout(source, watch(buckets))
    (stable, _), _ = rollout.watch.engine_of

    def count(by: int) -> None:
        for pod in (one, other):
            for le in ("1.0", "+Inf"):
                pod.counters[f'{buckets.selector}{{revision="{stable}",epoch="1",shift="x",le="{le}"}}'] += by

    spelled = '{source_labels: [le], regex: "1[.]0", target_label: le, replacement: "1"}'
    dropped = "{action: labeldrop, regex: shift}"
    for pod in (one, other):
        pod.started -= 3600
    count(1_000_000)
    await scraped(one, other)
    rollout.at = datetime.now(UTC)
    rules: tuple[tuple[str, ...], ...] = ((), (spelled,), (spelled, dropped), (dropped,), ())
    try:
        for each in rules:
            pods.relabel[:] = each
            pods.reload()
            for _ in range(3):
                count(10)
                await scraped(one, other)
                await rollout.tick()
        await asyncio.gather(one.scraped(2), other.scraped(2))
        await rollout.past()
    finally:
        pods.relabel.clear()
        pods.reload()
    counted = {le: n for (_, _, _, le), n in rollout.totals.items()}
    assert counted == {"1": 300, "+Inf": 300}
    assert rollout.errors == []


async def test_pods_that_differ_are_found_though_no_read_has_both(pods: Pods, source: Prometheus) -> None:
    """Reads are more frequent than scrapes, so most intervals have requests of one pod only."""
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), _ = rollout.watch.engine_of
    rollout.watch = replace(rollout.watch, by_process_of=stable, by_process=(TALLY,))
    noise = Noise(MetricParameters(alpha=0.01, margin=ERROR_MARGIN, ratio=1.5, absolute=0.002))
    both = alone = 0
    until = time.monotonic() + 2 * LONG
    while not noise.halves_differ and time.monotonic() < until:
        for pod, bad in ((one, 1), (other, 10)):
            pod.count(stable, by=20)
            pod.count(stable, "server_error", by=bad)
        await rollout.tick()
        for interval in rollout.last.intervals:
            processes = interval.by_process.get(TALLY, {})
            both, alone = both + (len(processes) == 2), alone + (len(processes) == 1)
            counts = {
                name: [Counts(sum(points.values()), sum(n for (_, _, how), n in points.items() if how != "ok"))]
                for name, points in processes.items()
            }
            noise = noise.add(counts, (interval.end - interval.begin).total_seconds(), pooled=1.0)
        await asyncio.sleep(0.1)
    assert noise.halves_differ, (both, alone)
