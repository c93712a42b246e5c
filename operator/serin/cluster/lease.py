"""Leader election with a Lease of coordination.k8s.io: one process writes, the others are standbys.

Used by `operator_process`. The protocol is that of client-go, so that its tools can read the Lease. A standby takes
over when the Lease has not changed for its duration by the standby's own clock, so clocks need not agree. A leader that
cannot renew in time loses the leadership: `leading` becomes False by the clock, even after a freeze of the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from serin.cluster.api_server import ApiServer
from serin.cluster.port import LEASE
from serin.errors import ClusterError, Conflict, NotFound

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Timing:
    """Durations in seconds. A leader stops before another may start: `renew_deadline` is less than `lease_duration`."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    @classmethod
    def of(cls, lease_duration: float) -> Timing:
        """The timing for a lease duration, in the proportions of the defaults."""
        return cls(lease_duration, lease_duration * 2 / 3, lease_duration * 2 / 15)


class Election:
    """The participation of one process in the election.

    Args:
        api: the connection.
        namespace, name: of the Lease; it is created if it does not exist.
        identity: unique name of this process: the name of the pod.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        api: ApiServer,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._collection = f"/apis/{LEASE.api_version}/namespaces/{namespace}/{LEASE.plural}"
        self._namespace, self._name, self._identity = namespace, name, identity
        self._timing = timing
        self._clock = clock
        self._renewed_at: float | None = None
        """Time at which the last successful renewal was SENT, the earliest from which another process counts."""
        self._observed: dict[str, Any] | None = None
        self._observed_at = 0.0
        self.reached = False
        """Whether the API server has answered at least once."""

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._timing.renew_deadline

    async def acquire(self) -> None:
        """Wait until this process leads; failed requests are retried."""
        while not await self._try():  # noqa: ASYNC110 - the Lease is polled; nothing here could set an event
            await asyncio.sleep(self._timing.retry_period)
        log.info("leadership acquired", lease=f"{self._namespace}/{self._name}", identity=self._identity)

    async def hold(self) -> None:
        """Renew until the leadership is lost, then return; the caller must end the process."""
        while True:
            await asyncio.sleep(self._timing.retry_period)
            # Check the clock first: after a freeze another process may lead, and a renewal could still succeed.
            if not self.leading:
                break
            if not await self._try() and self._observed and self._holder(self._observed) != self._identity:
                break
        self._renewed_at = None
        log.error("leadership lost", lease=f"{self._namespace}/{self._name}", identity=self._identity)

    async def release(self) -> None:
        """Release the Lease if this process holds it. Call it only when nothing writes any more."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        lease = self._observed
        if lease is None or self._holder(lease) != self._identity:
            return
        # As in client-go: no holder, and a duration of one second for clients that ignore the holder.
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._request("PUT", {**lease, "spec": spec})
        except ClusterError as error:
            log.warning("lease release failed", error=str(error))
        else:
            log.info("lease released", identity=self._identity)

    async def _try(self) -> bool:
        """Try once to become or stay the leader; never raises."""
        sent = self._clock()
        try:
            lease = await self._read()
            self.reached = True
            if lease is None:
                written = await self._request("POST", self._fresh())
            elif self._may_take(lease):
                written = await self._request("PUT", {**lease, "spec": self._spec(lease["spec"])})
            else:
                return False
        except Conflict:
            return False  # another process was faster; the next read shows which
        except ClusterError as error:
            log.warning("lease request failed", error=str(error))
            return False
        self._observe(written)
        self._renewed_at = sent
        return True

    async def _read(self) -> dict[str, Any] | None:
        try:
            lease = await self._request("GET")
        except NotFound:
            return None
        self._observe(lease)
        return lease

    def _observe(self, lease: dict[str, Any]) -> None:
        if self._observed is None or self._observed.get("spec") != lease.get("spec"):
            self._observed_at = self._clock()
        self._observed = lease

    def _may_take(self, lease: dict[str, Any]) -> bool:
        holder = self._holder(lease)
        if holder == self._identity:
            # Held by this process, or by an earlier process of the same name (a restarted container).
            return True
        lasts = lease.get("spec", {}).get("leaseDurationSeconds", self._timing.lease_duration)
        return not holder or self._clock() - self._observed_at >= lasts

    def _fresh(self) -> dict[str, Any]:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec({}),
        }

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = _now()
        same = before.get("holderIdentity") == self._identity
        return {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease_duration)),
            "renewTime": now,
            "acquireTime": before.get("acquireTime", now) if same else now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (bool(before) and not same),
        }

    async def _request(self, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        path = self._collection if method == "POST" else f"{self._collection}/{self._name}"
        # Two attempts fit into the deadline, so that one lost packet does not end the leadership.
        return await self._api.request(method, path, body=body, limit=self._timing.renew_deadline / 3)

    @staticmethod
    def _holder(lease: dict[str, Any]) -> str:
        return lease.get("spec", {}).get("holderIdentity") or ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
