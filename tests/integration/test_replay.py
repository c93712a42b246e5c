"""`serin replay` as a process, with a real API server and Prometheus; and the fake Prometheus beside the real one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.prometheus import FakePrometheus, answering
from sandbox.control_plane import api_tier
from sandbox.control_plane.api_tier import Handle
from serin.analysis.counts import Interval, Tally
from serin.analysis.trial_state import Epoch, MetricState, TrialState
from serin.analysis.update import advance
from serin.evidence.conditional import ConditionalTest
from serin.evidence.slices import Counts, Slice, Totals
from serin.manifests.controller_revision import render_record
from serin.manifests.evidence_map import render_evidence
from serin.manifests.owner import Owner
from serin.metric_sources.connection import Connection
from serin.metric_sources.port import MetricSource, Server, Watch
from serin.metric_sources.prometheus import Prometheus
from serin.metric_sources.response import labels_of, values_of
from tests.integration.conftest import ESTABLISHED, ROOT, Kubectl
from tests.integration.manifests import LLMDEPLOYMENT
from tests.integration.scraped import REQUESTS, Pods, Rollout, scraped_pods, settings
from tests.unit.rollout.cases import BAD, ENGINE, A, B, make_evidence, make_record, make_trial

OWNER = Owner(namespace="default", name="triage", uid="c0ffee00-0000-4000-8000-000000000000")
SIDES = tuple((revision, ENGINE[revision]) for revision in (B, A))
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    with api_tier.start(tmp_path_factory.mktemp("replay") / "api", prometheus=True) as handle:
        yield handle


@pytest.fixture(scope="module")
def kubectl(tier: Handle) -> Kubectl:
    kubectl = Kubectl.of(tier)
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for", ESTABLISHED, "--timeout=30s", "-f", str(ROOT / "crds"))
    return kubectl


@pytest.fixture(scope="module")
def pods(tier: Handle) -> Iterator[Pods]:
    with scraped_pods(tier) as pods:
        for revision, engine in SIDES:
            for replica in "12":
                target = {"namespace": OWNER.namespace, "deployment": OWNER.name, "engine_revision": engine}
                pods.add(f"{revision}-{replica}", reload=False, **target)
        pods.reload()
        yield pods


@pytest.fixture
def serin(tier: Handle, tmp_path: Path) -> Any:
    """Run a command of Serin and return exit status, standard output and standard error."""

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SERIN_", "KUBE"))}
        environment |= {"KUBECONFIG": str(tier.kubeconfig), "SERIN_SCRAPE_INTERVAL": "1", "PYTHONPATH": "operator"}
        environment |= {"SERIN_PROMETHEUS_URL": str(tier.prometheus_url), "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "serin", *arguments]
        done = subprocess.run(
            command, input=given, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    return run


class Remembering(Rollout):
    """Records each reading as it was cut."""

    def __init__(self, source: MetricSource, watch: Watch) -> None:
        super().__init__(source, watch)
        self.intervals: list[Interval] = []

    def take(self, interval: Interval) -> None:
        super().take(interval)
        self.intervals.append(interval)


async def lived_through(pods: Pods, tier: Handle) -> TrialState:
    """A few seconds of a trial: two epochs, a restart, and the readings of the operator."""
    (one, other), (first, second) = ([pods.pods[f"{revision}-{n}"] for n in "12"] for revision in (B, A))
    for pod in (first, second):
        pod.count(A, by=5000, epoch=0)
        await pod.scraped(2)
    since = datetime.now(UTC)
    errors = make_evidence(BAD).metrics[0].measurement
    state = make_evidence(
        BAD,
        trial=f"{B}@1",
        since=since,
        until=since,
        metrics=(MetricState.begin(errors),),
        epochs={1: Epoch(since, 500), 2: Epoch(since + timedelta(seconds=3), 2500)},
        young_seconds=1.0,
        settle_seconds=1.0,
    )
    source = Prometheus(settings(str(tier.prometheus_url)))
    rollout = Remembering(source, Watch(since, SIDES, state.tallies, namespace="default", name="triage"))
    for turn in range(6):
        if turn == 3:
            one.restart()
        for pod in (one, other):
            pod.count(B, "server_error" if turn % 2 else "ok", epoch=1 + turn // 3, by=4 + turn)
        for pod in (first, second):
            pod.count(A, epoch=1 + turn // 3, by=90)
            pod.count(A, "server_error", epoch=1 + turn // 3)
        await one.scraped()
        await second.scraped()
        await rollout.tick()
    await asyncio.gather(*(pod.scraped() for pod in (one, other, first, second)))
    await rollout.past()
    source.close()
    return advance(state, rollout.intervals, canary=B, stable=A)


async def test_trial_is_replayed_checked_and_refused(pods: Pods, tier: Handle, kubectl: Kubectl, serin: Any) -> None:
    state = await lived_through(pods, tier)
    (totals,) = state.metrics[0].tests.totals
    assert totals.n1 == 2 * sum(4 + turn for turn in range(6))
    assert totals.stable == Counts(2 * 6 * 91, 2 * 6)
    kubectl("apply", "-f", "-", manifest=LLMDEPLOYMENT)
    status, out, told = serin("replay", "triage")
    assert (status, out) == (2, "")
    assert told.endswith("wait until a canary of triage gets its first request, then try again.\n")

    canary = make_record(B, trial=make_trial(against=A))
    for record in (make_record(A, promotion=1), canary):
        kubectl("apply", "-f", "-", manifest=render_record(OWNER, record))
    kubectl("apply", "-f", "-", manifest=render_evidence(OWNER, state))
    status, out, told = serin("replay", "triage", "--check")
    assert (status, told) == (0, "")
    assert out.startswith("All totals agree until ")

    status, out, told = serin("replay", "triage")
    assert (status, told) == (0, "")
    reset, *slices = map(json.loads, out.splitlines())
    assert reset == {"reset": {"alpha": 0.01, "margin": 1.1, "cap": 0.5, "min_stratum": 3, "of_rates": True}}
    assert Totals(*(sum(s[key] for s in slices) for key in ("n1", "x1", "n0", "x0"))) == totals
    assert {s["epoch"] for s in slices} == {1, 2}
    status, answers, told = serin("evidence", given=out)
    assert (status, told) == (0, "")
    # Where slices end moves the evidence a little, so the operator's test gets the same slices.
    test = ConditionalTest(state.metrics[0].tests.comparisons[0].test.parameters)
    for each in slices:
        test = test.add(Slice(**{k: v for k, v in each.items() if k != "young"}), young=each.get("young", False))
    last = json.loads(answers.splitlines()[-1])
    assert (last["log_e"], last["rolled_back"]) == (pytest.approx(test.log_e), test.rolled_back)
    assert test.log_e > 1.0

    begun = MetricState.begin(state.metrics[0].measurement)
    tests = begun.tests.add([Totals(1, 0, 7, 7)], t=1.0, epoch=1, settled=True)
    wrong = replace(state, metrics=(replace(begun, tests=tests),))
    kubectl("apply", "-f", "-", manifest=render_evidence(OWNER, wrong))
    status, out, told = serin("replay", "triage", "--check")
    assert (status, told) == (1, "")
    assert out.startswith(f"errors differs: n1 1 stored, {totals.n1} read again, x1 0 stored,")

    for arguments, sentence in (
        (("elsewhere",), "There is no LLMDeployment elsewhere in default; correct the name, or give --namespace."),
        (("triage", "--metric", "ttft"), "The trial has no metric ttft; choose one of errors."),
        (("triage", "--boundary", "2"), "errors has 1 boundaries; give --boundary from 1 to 1."),
        (("triage", "--prometheus", NOBODY), "cannot be reached; check that it runs and that the URL is right."),
    ):
        status, out, told = serin("replay", *arguments)
        assert (status, out) == (2, "")
        assert told.endswith(sentence + "\n")
        assert told.startswith("serin replay: ")

    past = timedelta(days=400)
    kubectl(
        "apply",
        "-f",
        "-",
        manifest=render_evidence(OWNER, replace(wrong, since=state.since - past, until=state.until - past)),
    )
    status, out, told = serin("replay", "triage", "--check")
    assert (status, out) == (2, "")
    assert told.endswith("use one that keeps its samples for longer, or that scrapes these pods.\n")


async def test_fake_prometheus_answers_as_the_real_one(pods: Pods, tier: Handle) -> None:
    """Compares the answers of both to every query that the operator sends, on the same samples."""
    one, other = pods.pods[f"{A}-1"], pods.pods[f"{B}-1"]
    began = datetime.now(UTC)
    for _ in range(4):
        one.count("late", by=7)
        other.count("new", "server_error", by=2)
        one.counters['latency_bucket{revision="late",epoch="1",le="1.0"}'] += 3
        await one.scraped()
        await other.scraped()
    await one.scraped(2)  # readings end one scrape before now
    real = Connection(Server(str(tier.prometheus_url)), timeout=4.0)
    now = datetime.now(UTC).replace(microsecond=0)
    fake = FakePrometheus(lambda: round(now.timestamp() * 1000))
    for row in await real.query('{job="pods"}[10m]', fake.clock()):
        labels = labels_of(row["metric"])
        name = labels.pop("__name__")
        for at, value in values_of(row["values"]):
            fake.store(name, labels, round(float(at) * 1000), float(value))
    tallies = (Tally(REQUESTS, by="outcome"), Tally("latency_bucket", by="le"))
    watch = Watch(
        began,
        (("late", "e1"), ("new", "e2")),
        tallies,
        baseline_of="late",
        traffic_of=("late", "new"),
        requests=tallies[0],
        namespace="default",
        name="triage",
    )
    read = (
        await Prometheus(settings(str(tier.prometheus_url)), clock=lambda: now, connect=answering(fake)).read([watch])
    )[watch.key]
    assert read.intervals
    assert read.intervals[0].counts
    assert read.baseline
    kinds = set()
    for query, at in fake.asked[1:]:
        kinds.add(query.partition("(")[0] if query.startswith(("last", "sum")) else query.partition("{")[0])
        assert _comparable(fake.query(query, at)) == _comparable(await real.query(query, at)), query
    real.close()
    assert kinds >= {REQUESTS, "latency_bucket", "up", "process_start_time_seconds", "last_over_time", "sum by "}


def _comparable(rows: list[Any]) -> dict[Any, Any]:
    return {
        frozenset(labels_of(row["metric"]).items()): [
            (float(at), pytest.approx(float(v))) for at, v in values_of(row["values"])
        ]
        if "values" in row
        else pytest.approx(float(row["value"][1]))
        for row in rows
    }
