"""The series serin_checks_total.

Its labels come from the split document only: at most 16 names at a time, of the pairs that `metrics` has. The first
request of a pair creates its series with value 0. A check that leaves the document, or that asks something else from
now on, loses its series: the counts so far mean something else.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from ..labels import Identity
from .answer import RESULTS
from .document import Check, Checks

_Counters = dict[str, Counter]
"""By result."""


class CheckCounters:
    """The counters of all checks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._family = Counter(
            "serin_checks",
            "Answers with outcome ok that a check of the split document has judged; skipped: that it could not judge.",
            ("revision", "epoch", "check", "result"),
            registry=registry,
        )
        self._checks: Checks | None = None
        self._cells: dict[Identity, dict[str, _Counters]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._cells.values()))

    def arrive(self, identity: Identity, checks: Checks | None) -> None:
        """A request arrives whose document has these checks."""
        if checks is not self._checks:
            self._use(checks)
        if checks is None:
            return
        cells = self._cells.setdefault(identity, {})
        if len(cells) < len(checks.definitions):
            for name in checks.definitions.keys() - cells.keys():
                cells[name] = {result: self._family.labels(*identity, name, result) for result in RESULTS}

    def of(self, identity: Identity, check: Check) -> Mapping[str, Counter] | None:
        """The counters of a check by result; None if its series are gone."""
        if self._checks is None or self._checks.definitions.get(check.name) != check.definition:
            return None
        return self._cells.get(identity, {}).get(check.name)

    def forget(self, identity: Identity) -> None:
        """Remove the series of a pair."""
        for name in self._cells.pop(identity, {}):
            self._remove(identity, name)

    def _use(self, checks: Checks | None) -> None:
        before = {} if self._checks is None else self._checks.definitions
        now = {} if checks is None else checks.definitions
        for name in [name for name, definition in before.items() if now.get(name) != definition]:
            for identity, cells in self._cells.items():
                if cells.pop(name, None) is not None:
                    self._remove(identity, name)
        self._checks = checks

    def _remove(self, identity: Identity, name: str) -> None:
        for result in RESULTS:
            self._family.remove(*identity, name, result)
