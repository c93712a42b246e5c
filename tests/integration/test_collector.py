"""Counting on a real Prometheus: every request once, whatever pods, Prometheus and the operator do meanwhile."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_api_client import PrometheusConnect

from sandbox import api_tier
from sandbox.api_tier import Handle
from serin.metric_sources.collector import Collector
from serin.metric_sources.port import Server, Watch
from serin.metric_sources.prometheus import Prometheus
from serin.metric_sources.promql import is_plain
from serin.rollout.readings import Baseline, Names, Tally
from tests.integration.scraped import LONG, REQUESTS, Pod, Pods, Rollout, scraped_pods, serving, settings

TALLY = Tally(REQUESTS, by="outcome")
SECOND = timedelta(seconds=1)
numbers = count()


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    with api_tier.start(tmp_path_factory.mktemp("collector"), prometheus=True) as handle:
        yield handle


KINDS: tuple[dict[str, str], ...] = (
    *({} for _ in range(6)),
    {"namespace": "ns", "deployment": "triage"},
    {"namespace": "other", "deployment": "triage"},
    {"namespace": "gateway"},
    {"namespace": "ns", "deployment": "triage", "engine_revision": "engine-a"},
    {"namespace": "ns", "deployment": "triage", "engine_revision": "engine-b"},
    {"namespace": "ns", "deployment": "flight", "engine_revision": "e-flight"},
)
"""Target labels of pairs of pods: Prometheus takes its time to see new ones, so they are all there from the start."""


@pytest.fixture(scope="module")
def pods(tier: Handle) -> Iterator[Pods]:
    with scraped_pods(tier) as pods:
        for number, labels in enumerate(KINDS):
            for replica in "ab":
                pods.add(f"pod-{number}-{replica}", reload=False, **labels)
        pods.reload()
        yield pods


@pytest.fixture
async def source(tier: Handle) -> AsyncIterator[Prometheus]:
    assert tier.prometheus_url
    source = Prometheus(settings(tier.prometheus_url))
    yield source
    source.close()


def watch(*tallies: Tally, name: str = "triage", engines: Sequence[str] = ("e1", "e2"), **more: Any) -> Watch:
    """A canary on its first requests; its revisions are nobody else's."""
    number = next(numbers)
    revisions = tuple((f"{role}{number}", engine) for role, engine in zip(("stable", "canary"), engines, strict=True))
    return Watch(datetime.now(UTC), revisions, tallies or (TALLY,), namespace="ns", name=name, **more)


async def two(pods: Pods, **labels: str) -> tuple[Pod, Pod]:
    """Two pods that no other test has had, and that were scraped."""
    names = [
        name for name, its in pods.labels.items() if its == {"instance": name, **labels} and name not in pods.taken
    ]
    pods.taken.update(names[:2])
    one, other = (pods.pods[name] for name in names[:2])
    await scraped(*(pod for pod in (one, other) if not pod.scrapes))
    return one, other


async def scraped(*pods: Pod) -> None:
    """Wait until each was scraped once from now on."""
    await asyncio.gather(*(pod.scraped() for pod in pods))


async def test_a_canary_that_is_born_failing_is_counted_from_its_first_failure(pods: Pods, source: Prometheus) -> None:
    """The failures of the first seconds, two pods, an old stable beside it; and what increase() makes of it."""
    one, other = await two(pods)
    rollout = Rollout(source, watch())
    (stable, _), (canary, _) = rollout.watch.engine_of
    for pod in (one, other):
        pod.count(stable, by=1000)
    await scraped(one, other)
    rollout.at = datetime.now(UTC)
    # Two thirds of its failures are there before anybody scrapes it, as if it refused every request.
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


async def test_pods_that_restart_fall_silent_vanish_and_come_lose_and_import_nothing(
    pods: Pods, source: Prometheus
) -> None:
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
    # One restarts; the other cannot be scraped for a while, and goes on working.
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
    # One vanishes. The other goes on under another label, an old process appears, and a young one.
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


async def test_nothing_is_lost_or_counted_twice_when_the_operator_restarts(pods: Pods, tier: Handle) -> None:
    """At every moment: before the first reading, between two, with and without having acknowledged."""
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
            while not (intervals := collector.evidence(first.key).intervals) and life:  # noqa: ASYNC110 - no waker
                await asyncio.sleep(0.02)
        # What is taken into account is written down; the odd lives end before they can say so.
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


async def test_nothing_is_lost_or_counted_twice_when_prometheus_restarts(
    pods: Pods, tier: Handle, source: Prometheus
) -> None:
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


async def test_two_deployments_with_the_same_revision_are_told_apart_by_their_targets(
    pods: Pods, source: Prometheus
) -> None:
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
    labels = {"namespace": "ns", "deployment": "triage"}
    pod, _ = await two(pods, **labels, engine_revision="engine-a")
    envoy, other = await two(pods, namespace="gateway")
    engine, _ = await two(pods, **labels, engine_revision="engine-b")
    one = watch(buckets, gateway, own, plain, engines=("engine-a", "engine-b"))
    (stable, _), (canary, _) = one.engine_of
    await envoy.scraped()
    for le, n in (("0.1", 2), ("2.5", 5), ("+Inf", 6)):
        pod.counters[f'ttft_seconds_bucket{{revision="{stable}",epoch="31",le="{le}"}}'] += n
        engine.counters[f'vllm:e2e_seconds_bucket{{le="{le}"}}'] += n
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
    }
    wanting = replace(one, baseline_of=canary, requests=plain)
    # Prometheus can estimate nothing of a series that it has seen once.
    async with asyncio.timeout(LONG):
        while len((known := await baseline(source, wanting)).histograms[own]) < 3:
            await scraped(pod, engine)
    assert set(known.histograms) == {buckets, own}
    assert known.histograms[buckets] == {}, "those are the other revision's"


async def baseline(source: Prometheus, wanting: Watch) -> Baseline:
    found = (await source.read([wanting]))[wanting.key].baseline
    assert found
    return found


async def test_the_baseline_is_the_rate_of_the_stable_alone(pods: Pods, source: Prometheus) -> None:
    one, other = await two(pods)
    wanting = replace(watch(), read_until=None, requests=TALLY)
    (stable, _), (canary, _) = wanting.engine_of
    wanting = replace(wanting, baseline_of=stable)
    idle = await baseline(source, wanting)
    for pod in (one, other):
        pod.count(stable)
        pod.count(canary, by=10**6)
        await pod.scraped()
        pod.count(stable, "error", by=300)
        pod.count(stable, by=300)
    async with asyncio.timeout(LONG):
        while (found := await baseline(source, wanting)).requests_per_second < 1:
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
async def test_what_we_take_for_a_plain_selector_prometheus_does_too(source: Prometheus, selector: str) -> None:
    assert is_plain(selector)
    one = watch(Tally(selector))
    rollout = Rollout(source, one)
    rollout.at = datetime.now(UTC) - 10 * SECOND
    await rollout.tick()
    assert rollout.errors == []
    assert rollout.last.intervals


async def test_requests_in_flight_are_summed_over_pods_and_as_old_as_their_scrape(
    pods: Pods, source: Prometheus
) -> None:
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
    # Between two scrapes the measurement does not get younger, although the question is asked anew.
    async with asyncio.timeout(LONG):
        while at != (again := await seen(7)):
            at = again
    assert at
    assert at < datetime.now(UTC)
    # Pods that do not answer are unknown and not idle.
    one.answers = other.answers = False
    await seen(None)


@contextmanager
def before(url: str, behave: "Behaviour", wrap: ssl.SSLContext | None = None) -> Iterator[str]:
    """A proxy in front of Prometheus that behaves as it is told."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            behave.seen.append(dict(self.headers.items()))
            status, answer = behave.status, behave.body
            if behave.wants - {f"{k}: {v}" for k, v in self.headers.items()}:
                status, answer = 401, b"no"
            if status == 200 and answer is None:
                with urlopen(Request(url + self.path, body, {"Content-Type": self.headers["Content-Type"]})) as found:  # noqa: S310
                    answer = found.read()
            self.send_response(status)
            self.send_header("Location", behave.location)
            self.send_header("Content-Length", str(len(answer or b"") + behave.missing))
            self.end_headers()
            self.wfile.write(answer or b"")
            for _ in range(behave.missing):
                if behave.done.wait(0.1):
                    return
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Proxy, wrap) as server:
        yield f"http{'s' if wrap else ''}://127.0.0.1:{server.server_port}"


class Behaviour:
    """How a proxy behaves."""

    def __init__(self) -> None:
        import threading

        self.status = 200
        self.body: bytes | None = None
        self.wants: set[str] = set()
        self.location = ""
        self.missing = 0
        self.done = threading.Event()
        self.seen: list[dict[str, str]] = []


async def test_a_prometheus_that_fails_or_dawdles_in_mid_rollout_is_told_and_then_caught_up_with(
    pods: Pods, tier: Handle
) -> None:
    assert tier.prometheus_url
    behave = Behaviour()
    one, _ = await two(pods)
    with before(tier.prometheus_url, behave) as url:
        source = Prometheus(settings(url, prometheus_timeout=1.0))
        rollout = Rollout(source, watch())
        (stable, _), _ = rollout.watch.engine_of
        one.count(stable, by=10)
        await one.scraped()
        await rollout.past()
        sentences = []
        for status, body, missing in (
            (500, b"boom", 0),
            (503, b"starting", 0),
            (422, b"too many samples", 0),
            (403, b"who?", 0),
            (302, b"", 0),
            (200, b"<html>", 0),
            (200, b'{"data": {"result": 7}}', 0),
            (200, b'{"data": {"result": [{}]}}', 0),
            (200, None, 1000),
        ):
            behave.status, behave.body, behave.missing = status, body, missing
            one.count(stable)
            await rollout.tick()
            sentences.append(str(rollout.last.error))
        start = time.monotonic()
        behave.status, behave.body, behave.missing = 200, None, 0
        behave.done.set()
        assert not rollout.of(stable) > 10
        await one.scraped()
        await rollout.past()
        assert time.monotonic() - start < LONG
        assert rollout.of(stable) == 19
        source.close()
    expected = (
        "failed",
        "failed",
        "refused a query",
        "lets nobody in",
        "is elsewhere",
        "is not a Prometheus",
        "is not a Prometheus",
        "cannot be read",
        "did not answer within 1 s",
    )
    for sentence, words in zip(sentences, expected, strict=True):
        assert words in sentence
        assert sentence.endswith(".")


async def test_one_gets_in_by_password_token_header_and_authority_and_no_secret_gets_out(
    tier: Handle, pods: Pods
) -> None:
    assert tier.prometheus_url
    assert pods
    certificates = tier.directory / "certificates"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    authority = (certificates / "ca.crt").read_text()
    behave, elsewhere = Behaviour(), Behaviour()
    source = Prometheus(settings("http://127.0.0.1:1"))

    async def error(server: Server) -> str | None:
        one = replace(watch(), server=server)
        return (await source.read([one]))[one.key].error

    with before(tier.prometheus_url, behave, context) as url, before(tier.prometheus_url, elsewhere) as other:
        open_to_all = Server(url, ca=authority)
        assert await error(open_to_all) is None
        for server, wanted in (
            (replace(open_to_all, basic_auth=("user", "hush")), "Authorization: Basic dXNlcjpodXNo"),
            (replace(open_to_all, bearer_token="hush\n"), "Authorization: Bearer hush"),
            (replace(open_to_all, headers=(("X-Scope-OrgID", "hush"),)), "X-Scope-OrgID: hush"),
        ):
            behave.wants = {wanted}
            assert await error(server) is None
            assert "lets nobody in" in str(await error(open_to_all))
            behave.wants, behave.status, behave.location = set(), 307, f"{other}/api/v1/query"
            behave.body = b"you said hush"
            said = str(await error(server))
            assert "is elsewhere" in said
            assert "hush" not in said
            behave.status, behave.location, behave.body = 200, "", None
        assert elsewhere.seen == [], "a redirect was followed"
        for server, words in (
            (Server(url), "certificate"),
            (Server(url, ca="hush"), "are no certificates; give them as PEM"),
            (Server(url, ca=authority, bearer_token="hu\nsh"), "is not fit for HTTP"),
            (Server(url, ca=authority, headers=(("X", "hush\r\nY: z"),)), "is not fit for HTTP"),
            (Server("http://user:hush@127.0.0.1:1"), "http://127.0.0.1:1 cannot be reached"),
            (Server("http://[hush"), "is none; correct it"),
        ):
            said = str(await error(server))
            assert words in said
            assert "hush" not in said
        # The operator's own server takes its authorities from a file.
        own = Prometheus(settings(url, prometheus_ca_file=str(certificates / "ca.crt"), prometheus_bearer_token="hush"))
        one = watch()
        behave.wants = {"Authorization: Bearer hush"}
        assert (await own.read([one]))[one.key].error is None
        own.close()
        missing = Prometheus(settings(url, prometheus_ca_file="/nowhere/ca.crt"))
        assert "/nowhere/ca.crt" in str((await missing.read([one]))[one.key].error)
        missing.close()
    files = [connection._authorities for connection in source._connections.values() if connection._authorities]
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    source.close()
    assert not any(path.exists() for path in files)


async def test_a_selector_that_prometheus_refuses_is_told_in_its_words(source: Prometheus) -> None:
    one, two = watch(Tally('x{a=~"("}')), watch()
    one, two = (replace(each, read_until=datetime.now(UTC) - 10 * SECOND) for each in (one, replace(two, name="two")))
    read = await source.read([one, two])
    assert "refused a query" in str(read[one.key].error)
    assert "missing closing )" in str(read[one.key].error)
    assert read[two.key].error is None
    assert read[two.key].intervals
