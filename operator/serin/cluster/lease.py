"""Leader election on a Lease of coordination.k8s.io: one process writes, the others stand by.

Used by `serin.__main__`. The protocol is that of client-go, so that its tools read our Lease: a standby takes over when
the record has not changed for the lease's duration by its own clock, hence clocks need not agree. A leader that could
not renew in time is deposed, whatever it was doing: `leading` turns False by the clock alone, also after a freeze.
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
    """Seconds. Whoever leads stops before anybody else may start: `renew_deadline` is below `lease_duration`."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0

    @classmethod
    def of(cls, lease_duration: float) -> Timing:
        """The same proportions for another duration."""
        return cls(lease_duration, lease_duration * 2 / 3, lease_duration * 2 / 15)


class Election:
    """One candidate.

    Args:
        api: the connection.
        namespace, name: where the Lease is; it is created when absent.
        identity: unique among the candidates: the name of the pod.
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
        """When the request that last made us leader was SENT: the earliest moment others may count from."""
        self._observed: dict[str, Any] | None = None
        self._observed_at = 0.0
        self.reached = False
        """Whether the API server has ever answered."""

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self._renewed_at is not None and self._clock() - self._renewed_at < self._timing.renew_deadline

    async def acquire(self) -> None:
        """Wait until this process leads; an API server that is away is waited for."""
        while not await self._try():  # noqa: ASYNC110 - the Lease is polled; nothing here could set an event
            await asyncio.sleep(self._timing.retry_period)
        log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self._identity)

    async def hold(self) -> None:
        """Renew until leadership is lost, then return; the process must end then."""
        while True:
            await asyncio.sleep(self._timing.retry_period)
            # First the clock: after a freeze somebody else may have taken over, and a renewal could even succeed.
            if not self.leading:
                break
            if not await self._try() and self._observed and self._holder(self._observed) != self._identity:
                break
        self._renewed_at = None
        log.error("leadership lost", lease=f"{self._namespace}/{self._name}", identity=self._identity)

    async def release(self) -> None:
        """Hand the Lease over at once, if it is ours. Call it only when nothing writes any more."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        lease = self._observed
        if lease is None or self._holder(lease) != self._identity:
            return
        # As client-go does: nobody holds it, and it lasts one second for those who do not look at the holder.
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._request("PUT", {**lease, "spec": spec})
        except ClusterError as error:
            log.warning("lease not released", error=str(error))
        else:
            log.info("lease released", identity=self._identity)

    async def _try(self) -> bool:
        """One attempt to become or stay the leader; never raises."""
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
            return False  # somebody was faster; the next look tells who
        except ClusterError as error:
            log.warning("lease not reached", error=str(error))
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
            # Ours: to renew, or left over by a process of the same name that is gone (a restarted container).
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
        # Two tries fit into the deadline, so that one lost packet does not depose a leader.
        return await self._api.request(method, path, body=body, limit=self._timing.renew_deadline / 3)

    @staticmethod
    def _holder(lease: dict[str, Any]) -> str:
        return lease.get("spec", {}).get("holderIdentity") or ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
