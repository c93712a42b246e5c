"""A Prometheus in memory for the queries of Serin: selectors, raw ranges and last_over_time, but not increase()."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, cast

from serin.errors import MetricsError
from serin.metric_sources.http_session import decoded
from serin.metric_sources.port import Server

_MATCHER = re.compile(r'([a-z_]+)(=~|!~|=)("(?:[^"\\]|\\.)*")')
_QUERY = re.compile(r"^(?:(last_over_time)\()?([a-zA-Z_:][\w:]*)\{(.*)\}\[(\d+)s\]\)?$", re.DOTALL)


@dataclass
class Tsdb:
    """Samples by series; times in milliseconds."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[int, float]]] = field(default_factory=dict)
    now: int = 0
    queries: list[tuple[str, int | None]] = field(default_factory=list)
    fails: dict[str, MetricsError] = field(default_factory=dict)
    """Errors by a text; raised for each query that contains it."""
    rows: dict[str, list[Any]] = field(default_factory=dict)
    """Rows by a text; the answer to each query that contains it."""
    used: float = math.inf
    closed: bool = False

    def close(self) -> None:
        self.closed = True

    def connect(self, server: Server, *, timeout: float, ca_file: str = "") -> Tsdb:
        """This server, whatever the URL."""
        del server, timeout, ca_file
        return self

    def add(self, name: str, at: int, value: float, **labels: str) -> None:
        self.samples.setdefault((name, frozenset(labels.items())), []).append((at, value))

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        self.queries.append((query, at))
        for text, error in self.fails.items():
            if text in query:
                raise error
        for text, rows in self.rows.items():
            if text in query:
                return rows
        if query == "vector(time())":
            return [{"metric": {}, "value": [self.now / 1000, str(self.now / 1000)]}]
        matched = _QUERY.match(query)
        if matched is None:
            return []
        function, name, matchers, seconds = matched.groups()
        wanted = [(label, op, json.loads(text)) for label, op, text in _MATCHER.findall(matchers)]
        until = self.now if at is None else at
        answer = []
        for (metric, labels), samples in self.samples.items():
            found = [(t, v) for t, v in samples if until - int(seconds) * 1000 < t <= until]
            if metric == name and found and all(_fits(dict(labels).get(n, ""), op, v) for n, op, v in wanted):
                values = [[t / 1000, str(v)] for t, v in found]
                row: dict[str, Any] = {"metric": {"__name__": name, **dict(labels)}}
                answer.append(row | ({"value": values[-1]} if function else {"values": values}))
        body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": answer}})
        return cast("list[Any]", decoded(body.encode())["data"]["result"])


def _fits(value: str, operator: str, wanted: str) -> bool:
    return value == wanted if operator == "=" else (re.fullmatch(wanted, value) is not None) == (operator == "=~")
