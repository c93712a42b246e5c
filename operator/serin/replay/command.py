"""The command `serin replay`: reads a trial's counts from Prometheus again and prints slices for `serin evidence`.

Called by `serin.__main__`. It reads the cluster and Prometheus and writes to neither. The ConfigMap of the trial says
what is measured, since when and in which epochs; `serin.replay.trial` turns the counts into slices.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from serin.analysis.counts import Interval
from serin.analysis.trial_state import TrialState
from serin.analysis.update import advance
from serin.api.names import LABEL_DEPLOYMENT
from serin.api.parse import parse_llmdeployment
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.port import CONFIG_MAP, CONTROLLER_REVISION, LLMDEPLOYMENT, SECRET, Cluster
from serin.errors import MetricsError, RecordError, SerinError
from serin.evidence.metric import Comparison
from serin.manifests.controller_revision import read_record
from serin.manifests.evidence_map import name_of, read_evidence
from serin.metric_sources.connection import Connect, Connection
from serin.metric_sources.port import MetricSource, Server, Watch
from serin.metric_sources.prometheus import Prometheus
from serin.metric_sources.server import server
from serin.replay.recorded import parameters_of
from serin.replay.trial import ComparedRevisions, begun, compare, compared_revisions, slices
from serin.settings import Settings

AGREES, DIFFERS, FAILED = 0, 1, 2


@dataclass(frozen=True)
class Replayable:
    """What the cluster stores of a trial."""

    state: TrialState
    compared: ComparedRevisions
    server: Server | None
    """The Prometheus that the spec names."""


def replay(given: argparse.Namespace) -> int:
    """Print the slices, or compare the totals; returns the exit status."""
    try:
        settings = Settings.from_environment(os.environ)
        if given.prometheus:
            settings = settings.model_copy(update={"prometheus_url": given.prometheus})
        return asyncio.run(_replay(given, settings))
    except SerinError as error:
        sys.stderr.write(f"serin replay: {error}\n")
        return FAILED


async def _replay(given: argparse.Namespace, settings: Settings) -> int:
    api = await ApiServer.connect(settings.request_timeout)
    try:
        cluster = KubernetesCluster(api, identity="serin-replay", may_write=lambda: False)
        trial = await look_up(cluster, given.namespace, given.name)
    finally:
        await api.close()
    if given.prometheus:
        trial = replace(trial, server=None)
    metric, leaf = chosen(trial.state, given.metric, given.boundary)
    intervals = [interval async for interval in read_again(given.namespace, given.name, trial, settings)]
    again = advance(
        begun(trial.state), intervals, canary=trial.compared.canary.revision, stable=trial.compared.stable.revision
    )
    if _has_requests(trial.state) and not _has_requests(again):
        raise MetricsError(
            f"Prometheus returns no request of this trial since {trial.state.since.isoformat()}; "
            "use one that keeps its samples for longer, or that scrapes these pods."
        )
    if given.check:
        comparison = compare(trial.state, again)
        sys.stdout.write(comparison.message + "\n")
        return AGREES if comparison.agrees else DIFFERS
    for line in lines(trial, intervals, metric=metric, leaf=leaf):
        sys.stdout.write(json.dumps(line) + "\n")
    return AGREES


def _has_requests(state: TrialState) -> bool:
    return bool(state.canary_requests or state.stable_requests)


async def look_up(cluster: Cluster, namespace: str, name: str) -> Replayable:
    """The latest trial of an LLMDeployment.

    Raises:
        SerinError: there is no such LLMDeployment, or no trial that can be replayed.
    """
    obj = await cluster.get(LLMDEPLOYMENT, namespace, name)
    if obj is None:
        raise RecordError(f"There is no LLMDeployment {name} in {namespace}; correct the name, or give --namespace.")
    spec = parse_llmdeployment(obj)
    config_map = await cluster.get(CONFIG_MAP, namespace, name_of(name))
    state = read_evidence(config_map)
    if state is None:
        why = "has no trial state that this version can read" if config_map else "does not exist"
        raise RecordError(
            f"ConfigMap {name_of(name)} {why}; wait until a canary of {name} gets its first request, then try again."
        )
    records = [
        read_record(o) for o in await cluster.list(CONTROLLER_REVISION, namespace, labels={LABEL_DEPLOYMENT: name})
    ]
    named = spec.analysis.prometheus
    secret = named.auth_secret_ref if named else None
    credentials = await cluster.get(SECRET, namespace, secret.name) if secret else None
    return Replayable(state, compared_revisions(state, records), server(named, credentials))


def chosen(state: TrialState, name: str | None, boundary: int | None) -> tuple[int, int]:
    """Indices of the metric that is replayed and of its test.

    Raises:
        RecordError: there is no such metric or boundary, or the metric is a ceiling.
    """
    measurements = [metric.measurement for metric in state.metrics]
    names = [measurement.name for measurement in measurements]
    comparing = [i for i, measurement in enumerate(measurements) if measurement.parameters.ceiling is None]
    required = [i for i in comparing if measurements[i].required]
    if name is not None and name not in names:
        raise RecordError(f"The trial has no metric {name}; choose one of {', '.join(names)}.")
    metric = names.index(name) if name is not None else next(iter([*required, *comparing]), None)
    if metric is None or metric not in comparing:
        raise RecordError("A ceiling has no slices of its own; pass --metric with the metric that it limits.")
    leaves = measurements[metric].parameters.leaves
    if boundary is not None and not 1 <= boundary <= leaves:
        raise RecordError(f"{names[metric]} has {leaves} boundaries; give --boundary from 1 to {leaves}.")
    return metric, state.metrics[metric].tests.strongest if boundary is None else boundary - 1


def lines(trial: Replayable, intervals: list[Interval], *, metric: int, leaf: int) -> Iterator[Mapping[str, Any]]:
    """The input of `serin evidence`: a reset with the parameters of the test, then the slices."""
    test = trial.state.metrics[metric].tests.leaves[leaf]
    assert isinstance(test, Comparison)  # noqa: S101 - `chosen` chooses no other
    yield {"reset": parameters_of(test.test.parameters)}
    for s, young in slices(trial.state, intervals, trial.compared, metric=metric, leaf=leaf):
        yield dataclasses.asdict(s) | ({"young": True} if young else {})


async def read_again(
    namespace: str, name: str, trial: Replayable, settings: Settings, *, connect: Connect = Connection
) -> AsyncIterator[Interval]:
    """The intervals from `since` to `until`, each as long as a scrape interval.

    Raises:
        MetricsError: Prometheus cannot be reached, refuses a query, or has no samples up to `until`.
    """
    state, both = trial.state, (trial.compared.canary, trial.compared.stable)
    watch = Watch(
        namespace=namespace,
        name=name,
        read_until=state.since,
        engine_of=tuple((side.revision, side.engine_revision) for side in both),
        tallies=state.tallies,
        server=trial.server,
    )
    step = timedelta(seconds=settings.scrape_interval)
    clock = _Clock(state.since)
    source = Prometheus(settings, clock=lambda: clock.now + timedelta(seconds=settings.lag), connect=connect)
    try:
        at = state.since
        while at < state.until:
            clock.now = min(state.until, max(at + step, at + timedelta(seconds=1)))
            # The clock of a replay is behind on purpose, which is no skew of Prometheus' clock.
            interval = replace(await _one(source, replace(watch, read_until=at)), ahead=timedelta())
            yield interval
            at = interval.end
    finally:
        source.close()


@dataclass
class _Clock:
    """The end of the next interval."""

    now: datetime


async def _one(source: MetricSource, watch: Watch) -> Interval:
    evidence = (await source.read([watch]))[watch.key]
    if evidence.error:
        raise MetricsError(evidence.error)
    if not evidence.intervals:
        raise MetricsError(f"Prometheus has no samples after {watch.read_until} yet; check its clock, or try again.")
    return evidence.intervals[0]
