"""The model server's counters in the sandbox's Prometheus. Called by the end-to-end tests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import requests

from examples.demo.cluster import Cluster
from examples.demo.place import Place

BAD = {"server_error", "rejected", "stream_error", "aborted", "timed_out"}


def finished(place: Place, cluster: Cluster, revision: str, epochs: set[str]) -> tuple[int, int]:
    """Return how many requests a revision's running pods finished in these epochs, and how many of them were bad."""
    query = (
        f'sum by (outcome) (serin_requests_total{{namespace="{cluster.namespace}",'
        f'revision="{revision}",epoch=~"{"|".join(sorted(epochs))}"}})'
    )
    by_outcome: Counter[str] = Counter()
    for row in _ask(place, query):
        by_outcome[row["metric"]["outcome"]] += int(float(row["value"][1]))
    return sum(by_outcome.values()), sum(count for outcome, count in by_outcome.items() if outcome in BAD)


def finished_rate(place: Place, cluster: Cluster) -> float:
    """Return the requests per second that all pods of the namespace finish, as Prometheus estimates; 0.0 if unknown."""
    rows = _ask(place, f'sum(increase(serin_requests_total{{namespace="{cluster.namespace}"}}[5m]))')
    return sum(float(row["value"][1]) for row in rows) / 300


def _ask(place: Place, query: str) -> list[dict[str, Any]]:
    answer = requests.post(f"{place.prometheus_url}/api/v1/query", {"query": query}, timeout=10)
    answer.raise_for_status()
    return list(answer.json()["data"]["result"])
