"""Writes the status of PromptVersions: content hash, whether it is valid, and which LLMDeployments use it.

Called by the work queue for one PromptVersion at a time. Nothing else is written; `serin.resolve` is where a prompt
becomes part of a revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from serin.api.parse import parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.api.status import PromptVersionStatus
from serin.cluster.port import LLMDEPLOYMENT, PROMPTVERSION, Cluster
from serin.errors import SpecError
from serin.kube_types import Key
from serin.prompt_users import PromptUsers
from serin.reporting.prompt_status import prompt_status
from serin.status_writing import stored_status, write_status
from serin.workqueue import FORGET


@dataclass(frozen=True)
class PromptReconciler:
    """Reconciles PromptVersions, one per call."""

    cluster: Cluster
    clock: Callable[[], datetime]
    users: PromptUsers
    """Kept up to date by the watches."""

    async def reconcile(self, key: Key) -> timedelta | None:
        """Reconcile one PromptVersion; returns None, because only an event makes another reconcile necessary.

        Raises:
            ClusterError: the API server did not answer, or refused the write.
        """
        obj = await self.cluster.get(PROMPTVERSION, *key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return FORGET
        spec: PromptVersionSpec | str
        try:
            spec = parse_promptversion(obj)
        except SpecError as error:
            spec = str(error)
        await self._list_users(key[0])
        after = prompt_status(
            spec,
            generation=obj["metadata"]["generation"],
            used_by=self.users.of(key),
            now=self.clock(),
            before=stored_status(obj, PromptVersionStatus),
        )
        await write_status(self.cluster, PROMPTVERSION, obj, after)
        return None

    async def _list_users(self, namespace: str) -> None:
        if not self.users.needs_list(namespace, self.clock()):
            return
        self.users.begin_list(namespace)
        found = await self.cluster.list(LLMDEPLOYMENT, namespace, labels={})
        self.users.end_list(namespace, found, self.clock())
