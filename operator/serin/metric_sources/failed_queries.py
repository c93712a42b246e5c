"""Which watches a failed query concerns.

Called by `serin.metric_sources.queries` and `baselines`. A refused query concerns only the watches that need it, and if
only optional tallies need it, not even those. Any other failure may be that of the server, so the server is asked for
its time: if it answers, only the query has failed.
"""

from __future__ import annotations

from collections.abc import Iterable

from serin.errors import MetricsError
from serin.kube_types import Key
from serin.metric_sources.connection import Link
from serin.metric_sources.intervals import Family, family_of
from serin.metric_sources.port import RefusedError, Watch


class FailedQueries:
    """The failures of one read of one server.

    Args:
        connection: to the server.
    """

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self.left_out: dict[Key, str] = {}
        """Why an optional tally could not be read, by watch."""

    async def by_watch(self, error: MetricsError, watches: Iterable[Watch], family: Family) -> dict[Key, MetricsError]:
        """The error of each watch that cannot be read without this family.

        Args:
            error: of the query of the family.
            watches: those that have a tally of the family.
            family: what could not be read.

        Raises:
            MetricsError: the server does not answer at all.
        """
        if not isinstance(error, RefusedError):
            await self._connection.query("vector(time())")
        failures = {}
        for watch in watches:
            if isinstance(error, RefusedError) and family in _optional_families(watch):
                self.left_out[watch.key] = str(error)
            else:
                failures[watch.key] = error
        return failures


def _optional_families(watch: Watch) -> set[Family]:
    """The families that only optional tallies need."""
    needed = {family_of(tally) for tally in watch.tallies if tally not in watch.optional}
    return {family_of(tally) for tally in watch.optional} - needed
