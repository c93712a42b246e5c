"""The rollouts that the benchmark reads: what their pods and the gateway export, and what their trials want. Pure.

A trial of the default spec wants the tallies that `serin.analysis` gives it: requests by outcome, arrivals, requests
that are overdue or settled, time to first token by load, and the gateway's codes. Each pod has the series of eight
epochs, of which four can still grow: the running one, and three whose requests may not have ended. Latencies by load
are there for the newest three, as in the middleware. With each scrape there are further requests in every live epoch
and every cell, all of them ok, and slower than the lower half of the boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from serin.analysis.companions import companions, share_left
from serin.analysis.counts import Baseline, Tally
from serin.analysis.measurement import Measurement
from serin.analysis.presets import DEFAULT_SERIES, arrivals, measurements, requests
from serin.api.analysis import Analysis
from serin.metric_sources.port import Watch

ROLLOUTS, STABLE_PODS, CANARY_PODS, GATEWAYS = 200, 3, 1, 2
EPOCHS, LIVE, AT_LOAD = 8, (4, 5, 6, 7), (5, 6, 7)
AHEAD = (8, 9, 10, 11)
"""Epochs that can begin before the collector knows of them; no pod has series of them yet."""
OUTCOMES = ("ok", "server_error", "rejected", "stream_error", "aborted", "timed_out", "excluded", "left")
CODES = ("200", "404", "503")
SILENT = ("30", "60", "120", "300", "600")
LOADS = ("2", "3", "4", "5")
"""Load buckets of the pods: between the least and the greatest load are a factor of 2.9."""
REQUESTS = requests(DEFAULT_SERIES, measured=True)
_GATEWAY = requests(DEFAULT_SERIES, measured=False)
_TTFT = Tally("serin_time_to_first_token_seconds_bucket", by="le")

Series = tuple[str, str, int]
"""Name, labels as in the exposition format, and by how much it grows with each scrape."""


def trial(at: datetime) -> tuple[Measurement, ...]:
    """The comparisons of a trial of the default spec."""
    silent, settled = (Tally(f"serin_requests_{what}_total", by="le") for what in ("overdue", "settled"))
    stable = {
        silent: dict.fromkeys(SILENT, 0.0),
        settled: dict.fromkeys(SILENT, 1000.0),
        _GATEWAY: {"200": 1000.0},
        _TTFT: {"0.1": 400.0, "0.25": 700.0, "0.5": 900.0, "1": 980.0, "2.5": 999.0, "+Inf": 1000.0},
    }
    analysis, baseline = Analysis(), Baseline(at, 100.0, stable)
    found = companions(
        DEFAULT_SERIES, baseline, analysis.false_rollback_rate, measured=True, sticky=False, names=("errors", "ttft")
    )
    share = share_left(found)
    return (
        *measurements(analysis, DEFAULT_SERIES, baseline, measured=True, at_load=True, share=share),
        *found,
    )


def watches(begin: datetime) -> list[Watch]:
    """What the trials want to know after `begin`."""
    compared = trial(begin)
    started = arrivals(DEFAULT_SERIES, measured=True)
    wanted = [tally for each in compared for tally in each.tallies] + [started, REQUESTS]
    tallies = tuple(dict.fromkeys(tally for tally in wanted if tally))
    by_process = tuple(dict.fromkeys(tally for each in compared if each.compares_pods for tally in each.tallies))
    found = []
    for number in range(ROLLOUTS):
        stable, canary = _revisions(number)
        found.append(
            Watch(
                begin,
                ((stable, stable), (canary, canary)),
                tallies,
                epochs=LIVE + AHEAD,
                by_process_of=stable,
                by_process=by_process,
                requests=REQUESTS,
                arrivals=started,
                namespace=f"team-{number}",
                name=f"model-{number}",
            )
        )
    return found


def series() -> Iterator[Series]:
    """All series of pods and gateways."""
    boundaries = max(len(each.at_load.stable) for each in trial(datetime.now(UTC)) if each.at_load)
    for number in range(ROLLOUTS):
        stable, canary = _revisions(number)
        for pod in range(STABLE_PODS + CANARY_PODS):
            revision = stable if pod < STABLE_PODS else canary
            target = (
                f'container="engine",deployment="model-{number}",endpoint="http",engine_revision="{revision}",'
                f'instance="10.42.{number}.{pod}:8000",job="serin-models/vllm",namespace="team-{number}",'
                f'pod="model-{number}-{revision}-6c9d8f7b5d-x{pod}",revision="{revision}"'
            )
            for epoch in range(EPOCHS):
                yield from _of_epoch(f'{target},epoch="{epoch}"', int(epoch in LIVE))
            for epoch in AT_LOAD:
                yield from _at_load(f'{target},epoch="{epoch}"', boundaries)
        for gateway in range(GATEWAYS):
            for revision in (stable, canary):
                target = (
                    f'container="envoy",endpoint="metrics",namespace="gateways",pod="envoy-{gateway}",'
                    f'instance="10.42.250.{gateway}:8002",job="gateways/envoy",'
                    f'envoy_cluster_name="team-{number}_model-{number}-{revision}_8000"'
                )
                for code in CODES:
                    yield _GATEWAY.selector, f'{target},envoy_response_code="{code}"', int(code == "200")


def _of_epoch(target: str, grows: int) -> Iterator[Series]:
    yield "serin_requests_started_total", target, grows
    for outcome in OUTCOMES:
        yield "serin_requests_total", f'{target},outcome="{outcome}"', grows * (outcome == "ok")
    for le in SILENT:
        yield "serin_requests_overdue_total", f'{target},le="{le}"', 0
        yield "serin_requests_settled_total", f'{target},le="{le}"', grows


def _at_load(target: str, boundaries: int) -> Iterator[Series]:
    for cached in ("low", "high"):
        for load in LOADS:
            cell = f'{target},metric="ttft",cached="{cached}",load="{load}"'
            yield "serin_latency_requests_total", cell, 2
            for boundary in range(boundaries):
                yield "serin_latency_above_total", f'{cell},boundary="{boundary}"', int(boundary < boundaries / 2)


def _revisions(number: int) -> tuple[str, str]:
    """The stable's and the canary's revision of a rollout."""
    return f"{number:05x}aaaaa", f"{number:05x}ccccc"
