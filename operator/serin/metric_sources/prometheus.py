"""The `MetricSource` for Prometheus: any number of servers, one connection for each.

Called by the collector. `serin.metric_sources.queries` has the queries of one server. Here are the connections, which
are shared by the rollouts of a server and closed when idle, and the decision which watches a failure concerns.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from serin.analysis.counts import MetricReadings
from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources.connection import TENANT, Connect, Connection, Link
from serin.metric_sources.late_samples import LateSamples
from serin.metric_sources.port import Server, Watch
from serin.metric_sources.queries import Queries
from serin.settings import Settings

MAX_CONNECTIONS = 32
"""Most connections at once."""
DOUBLED = (
    "Prometheus has the same counters of the pods more than once, under {}. Serin counts each request once; scrape "
    "each pod by one job only."
)
IDLE_SECONDS = 300.0
"""Seconds without a query after which a connection is closed."""


class Prometheus:
    """A `MetricSource`.

    Args:
        settings: the operator's own server, and the labels of the series on all servers.
        clock: the current time, in UTC.
        connect: makes the connection to a server.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        connect: Connect = Connection,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._connect = connect
        self._own = own_server(settings)
        self._connections: dict[Server, Link] = {}
        self._late: dict[Server, LateSamples] = defaultdict(LateSamples)
        self._users: dict[Server, int] = defaultdict(int)
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    def close(self) -> None:
        """Close all connections and their threads."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    async def read(self, watches: Sequence[Watch]) -> Mapping[Key, MetricReadings]:
        """One interval for every watch that wants counts, and its other readings; never raises.

        An interval begins at the watch's `read_until` and ends where all samples are known, at most LONGEST later.
        """
        servers: dict[Server, list[Watch]] = defaultdict(list)
        for watch in watches:
            servers[watch.server or self._own].append(watch)
        read = await asyncio.gather(*(self._read(server, group) for server, group in servers.items()))
        return {key: readings for part in read for key, readings in part.items()}

    async def _read(self, server: Server, watches: Sequence[Watch]) -> dict[Key, MetricReadings]:
        wanting = [w for w in watches if w.tallies or w.draining or w.baseline_of or w.documents_of or w.leaving]
        readings = {watch.key: MetricReadings() for watch in watches}
        if not wanting:
            return readings
        try:
            async with self._connection(server) as connection:
                return readings | await self._answers(self._queries(server, connection), wanting)
        except MetricsError as error:
            return readings | {watch.key: MetricReadings(error=str(error)) for watch in wanting}

    def _queries(self, server: Server, connection: Link) -> Queries:
        return Queries(connection, self._settings, self._late[server])

    async def _answers(self, queries: Queries, watches: Sequence[Watch]) -> dict[Key, MetricReadings]:
        """The readings of all watches of one server.

        Raises:
            MetricsError: the server does not answer at all.
        """
        now = self._clock()
        usual = await queries.until(now)
        until = await queries.measure_lateness(watches, usual)
        lag = timedelta(seconds=self._settings.lag)
        in_flight = await queries.in_flight(engine for watch in watches for engine in watch.draining)
        documents, in_progress = await queries.documents(watches)
        baselines = await queries.baselines(watches, until)
        intervals = await queries.intervals(watches, until)
        answers = {}
        for watch in watches:
            interval, baseline = intervals.get(watch.key), baselines.get(watch.key)
            errors = [str(each) for each in (interval, baseline) if isinstance(each, MetricsError)]
            warnings = [*queries.warnings]
            late = max(timedelta(), now - until - lag)
            if sources := queries.doubled.get(watch.key):
                warnings.append(DOUBLED.format(sources))
            measured = {engine: in_flight.get((*watch.key, engine)) for engine in watch.draining}
            answers[watch.key] = MetricReadings(
                error=errors[0] if errors else None,
                left_out=queries.left_out.get(watch.key),
                late=late,
                warnings=tuple(warnings),
                intervals=() if interval is None or isinstance(interval, MetricsError) else (interval,),
                baseline=None if isinstance(baseline, MetricsError) else baseline,
                in_flight={engine: requests for engine, requests in measured.items() if requests is not None},
                documents=documents.get(watch.key, {}),
                in_progress=in_progress.get(watch.key, {}),
            )
        return answers

    @asynccontextmanager
    async def _connection(self, server: Server) -> AsyncIterator[Link]:
        """The connection to a server, made if there is none; at most MAX_CONNECTIONS exist at once."""
        async with self._free:
            connection = self._connections.get(server)
            if connection is None:
                self._close_unused()
                own = server == self._own
                connection = self._connections[server] = self._connect(
                    server,
                    timeout=self._settings.prometheus_timeout,
                    ca_file=self._settings.prometheus_ca_file if own else "",
                )
            self._users[server] += 1
            try:
                yield connection
            finally:
                self._users[server] -= 1
                self._close_idle()

    def _close_unused(self) -> None:
        """Close unused connections, the least recently used first, until there is room for one more."""
        unused = sorted(
            (server for server in self._connections if not self._users[server]),
            key=lambda server: self._connections[server].used,
        )
        for server in unused[: max(0, len(self._connections) + 1 - MAX_CONNECTIONS)]:
            self._close(server)

    def _close_idle(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        for server, connection in list(self._connections.items()):
            if not self._users[server] and connection.used < limit:
                self._close(server)

    def _close(self, server: Server) -> None:
        self._users.pop(server, None)
        self._late.pop(server, None)
        self._connections.pop(server).close()


def own_server(settings: Settings) -> Server:
    """The server of the operator's settings; its certificate authorities are in a file, which is not part of it."""
    user, token = settings.prometheus_username, settings.prometheus_bearer_token
    return Server(
        url=settings.prometheus_url,
        headers=((TENANT, settings.prometheus_tenant),) if settings.prometheus_tenant else (),
        basic_auth=(user, settings.prometheus_password) if user else None,
        bearer_token=token or None,
    )
