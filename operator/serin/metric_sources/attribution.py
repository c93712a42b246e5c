"""Attribution of series: from the labels of a series to the revisions whose requests it counts. Pure.

Called by `serin.metric_sources.queries`. `serin.analysis.counts.Names` lists the ways in which a series names its
revision: by its own label, by the gateway's backend, or by the engine revision of its pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from serin.analysis.counts import Names
from serin.api.names import PORT, child_name
from serin.kube_types import Key
from serin.metric_sources.counter_growth import Labels
from serin.metric_sources.port import Watch
from serin.settings import Settings

NO_REVISION = "none"
"""Label value that the model server writes for a request without a revision."""


class Counted(NamedTuple):
    """A revision of an LLMDeployment whose requests are counted."""

    key: Key
    revision: str


class Attribution:
    """The revisions that the values of one label name.

    An engine revision or a backend that serves both sides of a trial names neither: its series count them together, so
    their counts stay unknown.

    Args:
        names: how the series name their revision.
        wanted: the watches, each with the revisions that it counts.
        settings: the names of the labels.
    """

    def __init__(self, names: Names, wanted: Iterable[tuple[Watch, Sequence[str]]], settings: Settings) -> None:
        self._target_labels = (settings.namespace_label, settings.deployment_label)
        # The target labels of a gateway are its own; the name of the backend includes namespace and LLMDeployment.
        self._has_target_labels = names is not Names.BACKEND
        self._counted: dict[str, list[Counted]] = {}
        match names:
            case Names.REVISION:
                self.label = settings.revision_label
            case Names.BACKEND:
                self.label = settings.requests_backend_label
            case Names.ENGINE:
                self.label = settings.engine_revision_label
        for watch, revisions in wanted:
            engines, backends = dict(watch.engine_of), dict(watch.backend_of)
            users = Counter(engines.values())
            shared = Counter(backends.get(revision, revision) for revision in engines)
            for revision in revisions:
                match names:
                    case Names.REVISION:
                        value = revision
                    case Names.BACKEND:
                        backend = backends.get(revision, revision)
                        if shared[backend] > 1:
                            continue
                        value = settings.requests_backend.format(
                            namespace=watch.namespace, service=child_name(watch.name, backend), port=PORT
                        )
                    case Names.ENGINE:
                        value = engines.get(revision, "")
                        if users[value] > 1:
                            continue
                if value and value != NO_REVISION:
                    self._counted.setdefault(value, []).append(Counted(watch.key, revision))

    @property
    def values(self) -> list[str]:
        """The label values that name a wanted revision, sorted."""
        return sorted(self._counted)

    def named_by(self, value: str) -> list[Counted]:
        """The revisions that a value of the label names."""
        return self._counted.get(value, [])

    def of(self, labels: Labels) -> list[Counted]:
        """The revisions whose requests this series counts; its target labels must fit if it has them."""
        return self.of_place((labels.get(self.label, ""), *(labels.get(name, "") for name in self._target_labels)))

    def of_place(self, place: Sequence[str]) -> list[Counted]:
        """The same for the values of the label, of the namespace's and of the LLMDeployment's; "" if one is absent."""
        value, namespace, deployment = place
        named = self._counted.get(value, [])
        if not self._has_target_labels:
            return named
        return [
            counted
            for counted in named
            if (not namespace or namespace == counted.key[0]) and (not deployment or deployment == counted.key[1])
        ]
