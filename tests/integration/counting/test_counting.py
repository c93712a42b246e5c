"""Counting on a real Prometheus: every request once, also when pods, Prometheus or the operator restart."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from prometheus_api_client import PrometheusConnect

from sandbox.control_plane.api_tier import Handle
from serin.analysis.counts import Baseline, Names, Tally
from serin.metric_sources.collector import Collector
from serin.metric_sources.port import Watch
from serin.metric_sources.prometheus import Prometheus
from serin.metric_sources.promql import is_plain
from tests.integration.counting.rollouts import TALLY, scraped, two, watch
from tests.integration.scraped import LONG, REQUESTS, Pod, Pods, Rollout, settings


async def test_canary_is_counted_from_its_first_failure(pods: Pods, source: Prometheus) -> None:
    """The failures of the first seconds on two pods beside an old stable, compared with increase()."""
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), (canary, _) = rollout.watch.engine_of
    for pod in (one, other):
        pod.count(stable, by=1000)
    await scraped(one, other)
    rollout.at = datetime.now(UTC)
    # Two thirds of its failures happen before the first scrape, as if it refused every request.
    for failures in ((20, 20), (5, 4), (3, 7)):
        for pod, by in zip((one, other), failures, strict=True):
            pod.count(canary, "error", by=by)
            pod.count(stable, by=30)
        await scraped(one, other)
    await rollout.past()
    assert rollout.of(canary, "error") == 59
    assert rollout.of(stable) == 180
    estimated = PrometheusConnect(pods.tier.prometheus_url).custom_query(
        f'sum(increase({REQUESTS}{{revision="{canary}"}}[1m]))'
    )
    assert float(estimated[0]["value"][1]) < 0.94 * 59, "then increase() would do"


async def test_pods_that_restart_vanish_or_appear_lose_and_add_nothing(pods: Pods, source: Prometheus) -> None:
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), (canary, _) = rollout.watch.engine_of
    truth = 0

    def work(*busy: Pod, by: int = 7) -> None:
        nonlocal truth
        for pod in busy:
            pod.count(stable, by=by)
            truth += by

    work(one, other)
    await scraped(one, other)
    # One restarts; the other cannot be scraped for a while and continues to work.
    one.restart()
    work(one, by=2)
    other.answers = False
    work(other)
    await other.scraped(2)
    await rollout.past()
    other.answers = True
    work(one, other)
    await scraped(one, other)
    await rollout.past()
    assert rollout.of(stable) == truth
    # One vanishes. The other continues under another label, and an old and a new process appear.
    del pods.labels[one.name]
    pods.labels[other.name]["zone"] = "a"
    other.started -= 3600
    old = pods.add(f"{one.name}-old", age=3600, reload=False)
    young = pods.add(f"{one.name}-young", reload=False)
    old.count(stable, by=100_000)
    work(young, by=5)
    pods.reload()
    await scraped(old, young, other)
    await rollout.past()
    assert rollout.of(stable) == truth
    work(old, young, other)
    old.count(canary, by=3)
    await scraped(old, young, other)
    await rollout.past()
    assert rollout.of(stable) == truth
    assert rollout.of(canary) == 3, "the old one had been scraped without it"
    assert rollout.errors == []


async def test_operator_restart_loses_and_repeats_no_request(pods: Pods, tier: Handle) -> None:
    """Restarts before the first reading and between two, with and without an acknowledgement."""
    one, other = await two(pods)
    assert tier.prometheus_url
    first = watch()
    (stable, _), (canary, _) = first.engine_of
    persisted = Rollout(Prometheus(settings(tier.prometheus_url)), first)
    persisted.source.close()  # type: ignore[attr-defined]
    truth = Counter[str]()

    async def traffic() -> None:
        for turn in count():
            for pod, revision, outcome in ((one, stable, "ok"), (other, stable, "ok"), (other, canary, "error")):
                pod.count(revision, outcome, epoch=turn % 3)
                truth[revision] += 1
            await asyncio.sleep(0.01)

    working = asyncio.create_task(traffic())
    for life in range(6):
        source = Prometheus(settings(tier.prometheus_url))
        collector = Collector(source, interval=0.1)
        running = asyncio.create_task(collector.run())
        collector.set_watch(replace(first, read_until=persisted.at))
        async with asyncio.timeout(LONG):
            while not (intervals := collector.readings(first.key).intervals) and life:  # noqa: ASYNC110 - no waker
                await asyncio.sleep(0.02)
        # Every second operator ends after it persisted the counts and before it acknowledged them.
        for interval in intervals if life % 2 == 0 else ():
            persisted.take(interval)
        running.cancel()
        source.close()
    working.cancel()
    await scraped(one, other)
    source = Prometheus(settings(tier.prometheus_url))
    persisted.source = source
    await persisted.past()
    source.close()
    assert {revision: persisted.of(revision) for revision in truth} == dict(truth)
    assert {epoch for _, _, epoch, _ in persisted.totals} == {0, 1, 2}


async def test_prometheus_restart_loses_and_repeats_no_request(pods: Pods, tier: Handle, source: Prometheus) -> None:
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), _ = rollout.watch.engine_of
    one.count(stable, by=10)
    other.count(stable, by=10)
    await scraped(one, other)
    await rollout.past()
    assert rollout.of(stable) == 20
    one.count(stable, by=5)
    await one.scraped()
    tier.kill("prometheus")
    other.count(stable, by=7)
    await rollout.tick()
    gone = str(rollout.last.error)
    assert "cannot be reached; check that it runs" in gone
    tier.run("prometheus")
    tier.wait("prometheus")
    one.count(stable, by=2)
    await scraped(one, other)
    await rollout.past()
    assert rollout.of(stable) == 34


async def test_pods_of_two_jobs_and_relabelled_series_count_once(pods: Pods, source: Prometheus) -> None:
    """A million requests before, then a second job for one pod, then one more label for the series of both."""
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), _ = rollout.watch.engine_of
    for pod in (one, other):
        pod.started -= 3600
        pod.count(stable, by=1_000_000)
    await scraped(one, other)
    rollout.at = datetime.now(UTC)
    pods.second_job.add(one.name)
    pods.reload()
    truth = 0
    try:
        for turn in range(8):
            if turn == 4:
                pods.relabel.append(
                    f"{{source_labels: [revision], regex: {stable}, target_label: team, replacement: x}}"
                )
                pods.reload()
            for pod in (one, other):
                pod.count(stable, by=10)
                truth += 10
            await scraped(one, other)
            await rollout.tick()
        # Each of the two jobs has its own scrapes.
        await asyncio.gather(one.scraped(3), other.scraped(3))
        await rollout.past()
        assert rollout.of(stable) == truth
        assert any('under job "pods" and "second"' in warning for warning in rollout.last.warnings)
    finally:
        pods.second_job.clear()
        pods.relabel.clear()
        pods.reload()
    assert rollout.errors == []


async def test_equal_revisions_are_separated_by_their_target_labels(pods: Pods, source: Prometheus) -> None:
    here, _ = await two(pods, namespace="ns", deployment="triage")
    there, _ = await two(pods, namespace="other", deployment="triage")
    mine = watch()
    theirs = replace(mine, namespace="other")
    (stable, _), _ = mine.engine_of
    here.count(stable, by=3)
    there.count(stable, by=4)
    await scraped(here, there)
    one, other = Rollout(source, mine), Rollout(source, theirs)
    await asyncio.gather(one.past(), other.past())
    assert (one.of(stable), other.of(stable)) == (3, 4)


async def test_histograms_gateways_and_engines_are_counted_alike(pods: Pods, source: Prometheus) -> None:
    buckets = Tally('ttft_seconds_bucket{path!~"/health|\\\\d"}', by="le")
    gateway = Tally("envoy_cluster_upstream_rq", by="envoy_response_code", names=Names.BACKEND)
    own = Tally("vllm:e2e_seconds_bucket", by="le", names=Names.ENGINE)
    plain = Tally("rated_total ")
    check = Tally('serin_checks_total{check="format"}', by="result")
    labels = {"namespace": "ns", "deployment": "triage"}
    pod, _ = await two(pods, **labels, engine_revision="engine-a")
    envoy, other = await two(pods, namespace="gateway")
    engine, _ = await two(pods, **labels, engine_revision="engine-b")
    one = watch(buckets, gateway, own, plain, check, engines=("engine-a", "engine-b"))
    (stable, _), (canary, _) = one.engine_of
    await envoy.scraped()
    for le, n in (("0.1", 2), ("2.5", 5), ("+Inf", 6)):
        pod.counters[f'ttft_seconds_bucket{{revision="{stable}",epoch="31",le="{le}"}}'] += n
        engine.counters[f'vllm:e2e_seconds_bucket{{le="{le}"}}'] += n
    for name, result, n in (
        ("format", "pass", 7),
        ("format", "fail", 2),
        ("format", "skipped", 1),
        ("empty", "fail", 5),
    ):
        for epoch in ("31", "none"):
            labels_of = f'revision="{canary}",epoch="{epoch}",check="{name}",result="{result}"'
            pod.counters[f"serin_checks_total{{{labels_of}}}"] += n
    for code, n in (("200", 8), ("503", 2)):
        for each in (envoy, other):
            name = "envoy_cluster_upstream_rq"
            each.counters[f'{name}{{envoy_cluster_name="ns_triage-{canary}_8000",envoy_response_code="{code}"}}'] += n
    pod.counters[f'rated_total{{revision="{stable}"}}'] += 9
    await scraped(pod, envoy, other, engine)
    rollout = Rollout(source, one)
    await rollout.past()
    assert rollout.totals == {
        (buckets.selector, stable, 31, "0.1"): 2,
        (buckets.selector, stable, 31, "2.5"): 5,
        (buckets.selector, stable, 31, "+Inf"): 6,
        (gateway.selector, canary, None, "200"): 16,
        (gateway.selector, canary, None, "503"): 4,
        (own.selector, canary, None, "0.1"): 2,
        (own.selector, canary, None, "2.5"): 5,
        (own.selector, canary, None, "+Inf"): 6,
        (plain.selector, stable, None, ""): 9,
        (check.selector, canary, 31, "pass"): 7,
        (check.selector, canary, 31, "fail"): 2,
        (check.selector, canary, 31, "skipped"): 1,
    }
    wanting = replace(one, baseline_of=canary, requests=plain)
    # Prometheus needs two samples of a series for an estimate.
    async with asyncio.timeout(LONG):
        while len((known := await baseline(source, wanting)).histograms[own]) < 3:
            await scraped(pod, engine)
    assert set(known.histograms) == {buckets, own}
    assert known.histograms[buckets] == {}, "those are the other revision's"


async def baseline(source: Prometheus, wanting: Watch) -> Baseline:
    found = (await source.read([wanting]))[wanting.key].baseline
    assert found
    return found


async def test_baseline_is_the_recent_rate_of_all_revisions(pods: Pods, source: Prometheus) -> None:
    one, other = await two(pods)
    wanting = replace(watch(), read_until=None, requests=TALLY)
    (before, _), (stable, _) = wanting.engine_of
    wanting = replace(wanting, baseline_of=stable, traffic_of=(before, stable))
    idle = await baseline(source, wanting)
    # Promoted just now: the previous revision answered nearly all of the traffic.
    for pod, revision, times in ((one, before, 100), (other, stable, 1)):
        pod.count(revision)
        pod.count("somebody-else", by=10**6)
        await pod.scraped()
        pod.count("somebody-else", by=10**6)
        pod.count(revision, "error", by=300 * times)
        pod.count(revision, by=300 * times)
    async with asyncio.timeout(LONG):
        while (found := await baseline(source, wanting)).requests_per_second < 50:
            await scraped(one, other)
    assert idle.requests_per_second == 0.0
    assert found.requests_per_second < 1000


@pytest.mark.parametrize(
    "selector",
    [
        'x_total{a="}",}',
        r'x_total { a = "\"{" , b=~"5\\d\\d|[{}]" }',
        'x:y_total{a!="",b!~"ü.*",c="a,b"}',
        r'x_total{a="\\\n\t\a\b\f\r\v"}',
        "sum",
        "offset",
        "x_total{}\n",
    ],
)
async def test_prometheus_accepts_every_selector_that_we_accept(source: Prometheus, selector: str) -> None:
    assert is_plain(selector)
    one = watch(Tally(selector))
    rollout = Rollout(source, one)
    rollout.at = datetime.now(UTC) - timedelta(seconds=10)
    await rollout.tick()
    assert rollout.errors == []
    assert rollout.last.intervals


async def test_requests_in_flight_are_summed_with_the_age_of_their_scrape(pods: Pods, source: Prometheus) -> None:
    one, other = await two(pods, namespace="ns", deployment="flight", engine_revision="e-flight")
    for pod, running, waiting in ((one, 2, 1), (other, 4, 0)):
        pod.counters.update({"vllm:num_requests_running": running, "vllm:num_requests_waiting": waiting})
    flight = Watch(namespace="ns", name="flight", draining=("e-flight", "e222222222"))

    async def seen(requests: float | None) -> datetime | None:
        async with asyncio.timeout(LONG):
            while True:
                found = (await source.read([flight]))[flight.key].in_flight
                assert set(found) <= {"e-flight"}
                if (found["e-flight"].requests if found else None) == requests:
                    return found["e-flight"].at if found else None
                await asyncio.sleep(0.02)

    at = await seen(7)
    # Between two scrapes a new query returns the same measurement with the same age.
    async with asyncio.timeout(LONG):
        while at != (again := await seen(7)):
            at = again
    assert at
    assert at < datetime.now(UTC)
    # A pod that does not answer is unknown, not idle.
    one.answers = other.answers = False
    await seen(None)
