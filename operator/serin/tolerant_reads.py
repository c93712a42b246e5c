"""Reads of one reconcile: one that fails becomes a fact of the snapshot instead of ending the reconcile.

Used by the reconciler and by `serin.owned_objects`. ADR 20 says what is decided without the facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from serin.cluster.port import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    PROMPTVERSION,
    SECRET,
    SERVICE,
    Cluster,
    Kind,
)
from serin.errors import ClusterError
from serin.kube_types import Key, Object
from serin.manifests.evidence_map import name_of
from serin.manifests.owner import Owner
from serin.rollout.snapshot import Fact

SECONDS = 45.0
"""For all reads of a reconcile, so that time is left for writes: each request alone may take the API timeout."""

_FACTS = {
    HTTP_ROUTE: Fact.ROUTE,
    CONTROLLER_REVISION: Fact.RECORDS,
    DEPLOYMENT: Fact.DEPLOYMENTS,
    POD: Fact.PODS,
    SERVICE: Fact.SERVICES,
    POD_DISRUPTION_BUDGET: Fact.BUDGETS,
    PROMPTVERSION: Fact.PROMPT,
    SECRET: Fact.SECRET,
}


class TolerantReads:
    """The two reading verbs of a cluster; `failed` has what could not be read.

    Args:
        cluster: the API server.
        owner: the LLMDeployment whose children are read.
    """

    def __init__(self, cluster: Cluster, owner: Owner) -> None:
        self._cluster = cluster
        self._owner = owner
        self._until = asyncio.get_running_loop().time() + SECONDS
        self.failed: dict[Fact, ClusterError] = {}
        """The first error by fact."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object; None if it does not exist or was not read."""
        fact = _FACTS.get(kind) or (Fact.STATE if name == name_of(self._owner.name) else Fact.DOCUMENTS)
        try:
            async with asyncio.timeout_at(self._until):
                return await self._cluster.get(kind, namespace, name)
        except (ClusterError, TimeoutError) as error:
            self._note(fact, error)
            return None

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str]) -> list[Object]:
        """The objects with these labels; none if they were not read."""
        try:
            async with asyncio.timeout_at(self._until):
                return await self._cluster.list(kind, namespace, labels=labels)
        except (ClusterError, TimeoutError) as error:
            self._note(_FACTS.get(kind, Fact.DOCUMENTS), error)
            return []

    def _note(self, fact: Fact, error: ClusterError | TimeoutError) -> None:
        late = ClusterError(f"All reads together took longer than {SECONDS:g} s; check the API server.")
        self.failed.setdefault(fact, error if isinstance(error, ClusterError) else late)


async def read_self(cluster: Cluster, key: Key) -> Object | None:
    """The LLMDeployment; listed if a request for it alone fails, because without it nothing can be decided.

    Raises:
        ClusterError: neither request was answered.
    """
    namespace, name = key
    try:
        return await cluster.get(LLMDEPLOYMENT, namespace, name)
    except ClusterError as error:
        try:
            everything = await cluster.list(LLMDEPLOYMENT, namespace, labels={})
        except ClusterError:
            raise error from None
        found = next((obj for obj in everything if obj["metadata"]["name"] == name), None)
        if found is None:  # a request that was refused does not say that the object is gone
            raise
        return found
