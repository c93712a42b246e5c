"""A Prometheus in memory: stores samples and answers the queries of `serin.metric_sources.queries`, and no others.

It replaces only the connection (`answering`), so all code above it is the real one. Not here: pods and scrapes
(`fakes.traffic`).
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from serin.metric_sources.connection import Connect
from serin.metric_sources.port import Server

Samples = list[tuple[int, float]]
_RANGE = r"([a-zA-Z_:][\w:]*)\{(.*)\}\[(\d+)s\]"
_RAW = re.compile(_RANGE)
_LAST = re.compile(rf"last_over_time\({_RANGE}\)")
_INCREASE = re.compile(rf"sum by \(([^)]*)\) \((?:max by \(([^)]*)\) \()?increase\({_RANGE}\)\)?\)")
_NEWEST = re.compile(r"max by \(([^)]*)\) \(timestamp\(([a-zA-Z_:][\w:]*)\{(.*)\}\)\)")
LOOK_BACK_SECONDS = 300
"""How old the newest sample of a series may be for an instant query."""
_MATCHER = re.compile(r'([a-zA-Z_]\w*)(=~|!~|=)("(?:[^"\\]|\\.)*")')


@dataclass
class Stored:
    """One series; `times` is for searching, `values` is in the format of the answer."""

    labels: dict[str, str]
    times: list[int] = field(default_factory=list)
    """Milliseconds since 1970, ascending."""
    values: list[list[Any]] = field(default_factory=list)
    """Seconds since 1970, and the value as text."""

    def within(self, after: int, until: int) -> list[list[Any]]:
        """The samples in `(after, until]`."""
        return self.values[bisect_right(self.times, after) : bisect_right(self.times, until)]


@dataclass
class FakePrometheus:
    """The store, and the part of PromQL that the operator uses."""

    clock: Callable[[], int]
    """The server's current time, in milliseconds since 1970."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    """All queries, with their evaluation times in milliseconds since 1970."""
    _series: dict[str, dict[tuple[tuple[str, str], ...], Stored]] = field(default_factory=dict)
    _found: dict[tuple[str, str], tuple[int, list[Stored]]] = field(default_factory=dict)

    def store(self, name: str, labels: Mapping[str, str], at: int, value: float) -> None:
        """Store one sample, which must be newer than those of its series before."""
        self.handle(name, labels)(at, value)

    def handle(self, name: str, labels: Mapping[str, str]) -> Callable[[int, float], None]:
        """A function that stores samples of one series; faster than `store` for many samples."""
        family = self._series.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        stored = family.setdefault(key, Stored({"__name__": name, **labels}))

        def keep(at: int, value: float) -> None:
            stored.times.append(at)
            stored.values.append([at / 1000, f"{value:g}" if value < 1e5 else repr(value)])

        return keep

    def query(self, query: str, at: int | None = None) -> list[dict[str, Any]]:
        """The rows that answer an instant query."""
        at = self.clock() if at is None else at
        self.asked.append((query, at))
        if query == "vector(time())":
            return [{"metric": {}, "value": [at / 1000, str(at / 1000)]}]
        if match := _RAW.fullmatch(query):
            rows = ((stored.labels, stored.within(at - over, at)) for stored, over in self._select(*match.groups()))
            return [{"metric": labels, "values": values} for labels, values in rows if values]
        if match := _LAST.fullmatch(query):
            rows = ((stored.labels, stored.within(at - over, at)) for stored, over in self._select(*match.groups()))
            # Unlike other functions, last_over_time keeps the metric's name.
            return [{"metric": labels, "value": [at / 1000, values[-1][1]]} for labels, values in rows if values]
        if match := _INCREASE.fullmatch(query):
            return self._increase(match[1].split(", "), (match[2] or "").split(", "), match.groups()[2:], at)
        if match := _NEWEST.fullmatch(query):
            return self._newest(match[1].split(", "), match[2], match[3], at)
        if query.startswith("label_replace("):
            return []  # requests in flight: these pods have no such series
        raise AssertionError(f"the fake Prometheus does not support the query {query}")

    def _select(self, name: str, matchers: str, over: str) -> Iterator[tuple[Stored, int]]:
        family = self._series.get(name, {})
        known = self._found.get((name, matchers))
        if known is None or known[0] != len(family):
            wanted = [
                (name, sign != "!~", re.compile(json.loads(text) if "~" in sign else re.escape(json.loads(text))))
                for name, sign, text in _MATCHER.findall(matchers)
            ]
            assert _MATCHER.sub("", matchers).strip(",") == "", (
                f"the fake Prometheus supports only =, =~ and !~, not {matchers}"
            )
            fitting = [
                stored
                for stored in family.values()
                if all(
                    (pattern.fullmatch(stored.labels.get(label, "")) is not None) == fits
                    for label, fits, pattern in wanted
                )
            ]
            known = self._found[name, matchers] = (len(family), fitting)
        return ((stored, int(over) * 1000) for stored in known[1])

    def _newest(self, by: list[str], name: str, matchers: str, at: int) -> list[dict[str, Any]]:
        newest: dict[tuple[str, ...], float] = {}
        for stored, span in self._select(name, matchers, str(LOOK_BACK_SECONDS)):
            if values := stored.within(at - span, at):
                key = tuple(stored.labels.get(label, "") for label in by)
                newest[key] = max(newest.get(key, 0.0), values[-1][0])
        return [
            {
                "metric": {label: value for label, value in zip(by, key, strict=True) if value},
                "value": [at / 1000, repr(seconds)],
            }
            for key, seconds in newest.items()
        ]

    def _increase(self, by: list[str], inner: list[str], selector: tuple[str, ...], at: int) -> list[dict[str, Any]]:
        name, matchers, over = selector
        largest: dict[tuple[tuple[str, ...], object], float] = {}
        for stored, span in self._select(name, matchers, over):
            values = [(seconds, float(text)) for seconds, text in stored.within(at - span, at)]
            if len(values) > 1:
                key = tuple(stored.labels.get(label, "") for label in by)
                one = tuple(stored.labels.get(label, "") for label in inner) if inner != [""] else id(stored)
                grown = _extrapolated(values, (at - span) / 1000, at / 1000)
                largest[key, one] = max(largest.get((key, one), 0.0), grown)
        sums: dict[tuple[str, ...], float] = {}
        for (key, _), grown in largest.items():
            sums[key] = sums.get(key, 0.0) + grown
        return [
            {
                "metric": {label: value for label, value in zip(by, key, strict=True) if value},
                "value": [at / 1000, repr(total)],
            }
            for key, total in sums.items()
        ]


def _extrapolated(values: list[tuple[float, float]], begin: float, end: float) -> float:
    """The result of `increase`, as in Prometheus 3, `promql/functions.go`, extrapolatedRate."""
    grown = math.fsum(v - u if v >= u else v for (_, u), (_, v) in pairwise(values))
    (first, lowest), (last, _) = values[0], values[-1]
    sampled, to_start, to_end = last - first, first - begin, end - last
    average = sampled / (len(values) - 1)
    to_start = average / 2 if to_start >= 1.1 * average else to_start
    if grown > 0 and lowest >= 0:
        to_start = min(to_start, sampled * lowest / grown)
    to_end = average / 2 if to_end >= 1.1 * average else to_end
    return grown * (sampled + to_start + to_end) / sampled


@dataclass
class _Connection:
    """Replaces the connection of `serin.metric_sources.prometheus`."""

    store: FakePrometheus
    used: float = math.inf
    """Never idle."""

    async def query(self, query: str, at: int | None = None) -> list[dict[str, Any]]:
        return self.store.query(query, at)

    def close(self) -> None:
        """Do nothing."""


def answering(store: FakePrometheus) -> Connect:
    """What makes connections of which every server is `store`."""

    def connect(server: Server, *, timeout: float, ca_file: str = "") -> _Connection:
        del server, timeout, ca_file
        return _Connection(store)

    return connect
