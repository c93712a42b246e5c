"""Whose requests a series counts: from its labels to LLMDeployments and revisions. Pure.

Used by `serin.metric_sources.queries`. The ways in which series say it are `serin.analysis.counts.Names`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from serin.analysis.counts import Names
from serin.api.names import PORT, child_name
from serin.kube_types import Key
from serin.metric_sources.counter_growth import Labels
from serin.metric_sources.port import Watch
from serin.settings import Settings

NOBODY = "none"
"""What the model server writes where a request has no revision."""

Owner = tuple[Key, str]
"""An LLMDeployment and one of its revisions."""


class Owners:
    """Who is behind the values of one label.

    An engine revision that several revisions of one LLMDeployment run on is behind none of them: its series cannot tell
    them apart, so what they count stays unknown.

    Args:
        names: how the series say it.
        wanted: the watches, each with the revisions it asks for.
        settings: the names of labels.
    """

    def __init__(self, names: Names, wanted: Iterable[tuple[Watch, Sequence[str]]], settings: Settings) -> None:
        self._places = (settings.namespace_label, settings.deployment_label)
        # The gateway's own namespace is no statement about its backend, whose name says it all.
        self._has_place = names is not Names.BACKEND
        self._owners: dict[str, list[Owner]] = {}
        match names:
            case Names.REVISION:
                self.label = settings.revision_label
            case Names.BACKEND:
                self.label = settings.requests_backend_label
            case Names.ENGINE:
                self.label = settings.engine_revision_label
        for watch, revisions in wanted:
            engines = dict(watch.engine_of)
            users = Counter(engines.values())
            for revision in revisions:
                match names:
                    case Names.REVISION:
                        value = revision
                    case Names.BACKEND:
                        value = settings.requests_backend.format(
                            namespace=watch.namespace, service=child_name(watch.name, revision), port=PORT
                        )
                    case Names.ENGINE:
                        value = engines.get(revision, "")
                        if users[value] > 1:
                            continue
                if value and value != NOBODY:
                    self._owners.setdefault(value, []).append((watch.key, revision))

    @property
    def values(self) -> list[str]:
        """What the label may show, in order."""
        return sorted(self._owners)

    def behind(self, value: str) -> list[Owner]:
        """Those whom a value of the label names."""
        return self._owners.get(value, [])

    def of(self, labels: Labels) -> list[Owner]:
        """Those whose requests this series counts; target labels decide where they are there."""
        return [
            (key, revision)
            for key, revision in self.behind(labels.get(self.label, ""))
            if not self._has_place
            or all(labels.get(label) in {None, "", part} for label, part in zip(self._places, key, strict=True))
        ]
