"""What pods show of their split documents: which one is in force, and the requests in progress by revision.

Called by `serin.metric_sources.queries`. A trial of a prompt ends with this: a pod has switched when each of its
processes shows the new document. What is not known is absent from the answers, and never counts as done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from serin.analysis.counts import ShownDocument
from serin.kube_types import Key
from serin.metric_sources.counter_growth import Labels
from serin.metric_sources.counters import POD, PROCESS
from serin.metric_sources.port import RefusedError, Watch
from serin.metric_sources.promql import chunks, one_of
from serin.metric_sources.response import vector
from serin.settings import Settings

ASPECT = "serin_aspect"
"""Label that separates values from their times in the answer to one query."""
_DIGEST = "digest"
_REFUSED = "refused"
Shown = dict[Key, dict[str, dict[str, ShownDocument]]]
"""By LLMDeployment, engine revision and pod."""


class DocumentQueries:
    """The queries about split documents on one server.

    Args:
        ask: sends an instant query; see `Connection.query`.
        settings: names of labels.
    """

    def __init__(self, ask: Callable[[str], Awaitable[list[Any]]], settings: Settings) -> None:
        self._ask = ask
        self._settings = settings

    async def shown(self, watches: Sequence[Watch]) -> Shown:
        """The documents that are in force, by watch, engine revision and pod."""
        s, prefix = self._settings, self._settings.model_server_metrics
        wanted = {watch.key: frozenset(watch.documents_of) for watch in watches if watch.documents_of}
        places: dict[tuple[Key, str, str], list[tuple[str, str, float]]] = defaultdict(list)
        for engines in chunks(engine for each in wanted.values() for engine in each):
            where = f"{{{one_of(s.engine_revision_label, engines)}}}"
            # A document that no process uses any more is 0; one query for all, so that they are of one moment.
            query = " or ".join(
                (
                    _aspect(f"{prefix}split_info{where} > 0", _DIGEST),
                    _aspect(f"{prefix}split_refused{where} > 0", _REFUSED),
                    _aspect(f"timestamp({prefix}split_info{where})", "time"),
                )
            )
            for labels, value in await self._answer(query) or ():
                key, engine, pod = self._place(labels)
                if engine in wanted.get(key, ()) and pod:
                    places[key, engine, pod].append((labels.get(ASPECT, ""), labels.get(_DIGEST, ""), value))
        found: Shown = defaultdict(lambda: defaultdict(dict))
        for (key, engine, pod), values in places.items():
            times = [value for aspect, _, value in values if aspect == "time"]
            if times:
                found[key][engine][pod] = ShownDocument(
                    digests=frozenset(digest for aspect, digest, _ in values if aspect == _DIGEST),
                    at=datetime.fromtimestamp(min(times), UTC),
                    refused=any(aspect == _REFUSED for aspect, *_ in values),
                )
        return found

    async def in_progress(self, watches: Sequence[Watch]) -> dict[Key, dict[str, float]]:
        """The requests in progress of the revisions that leave, by watch and revision; a scrape reads both counters.

        A revision without series never had a request: that its pods are scraped is known by their documents.
        """
        s, prefix = self._settings, self._settings.model_server_metrics
        wanted = {watch.key: frozenset(watch.leaving) for watch in watches if watch.leaving}
        by = f"by ({s.namespace_label}, {s.deployment_label}, {s.revision_label})"
        found: dict[Key, dict[str, float]] = {key: {} for key in wanted}
        for revisions in chunks(revision for each in wanted.values() for revision in each):
            where = f"{{{one_of(s.revision_label, revisions)}}}"
            started = f"sum {by} ({prefix}requests_started_total{where})"
            # Without any finished request there is no such series.
            finished = f"(sum {by} ({prefix}requests_total{where}) or 0 * {started})"
            rows = await self._answer(f"{started} - {finished}")
            if rows is None:
                continue
            for key, each in wanted.items():
                found[key] |= dict.fromkeys(each & set(revisions), 0.0)
            for labels, value in rows:
                key, revision = self._place(labels)[0], labels.get(s.revision_label, "")
                if revision in found.get(key, ()):
                    found[key][revision] = max(0.0, value)
        return found

    async def _answer(self, query: str) -> list[tuple[dict[str, str], float]] | None:
        """The rows of an instant query; None if the server refuses it: then nothing is known."""
        try:
            return vector(await self._ask(query))
        except RefusedError:
            return None

    def _place(self, labels: Labels) -> tuple[Key, str, str]:
        """The LLMDeployment, the engine revision and the pod of a series."""
        s = self._settings
        key = labels.get(s.namespace_label, ""), labels.get(s.deployment_label, "")
        return key, labels.get(s.engine_revision_label, ""), labels.get(POD) or labels.get(PROCESS, "")


def _aspect(expression: str, aspect: str) -> str:
    return f'label_replace({expression}, "{ASPECT}", "{aspect}", "", "")'
