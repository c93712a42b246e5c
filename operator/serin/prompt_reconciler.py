"""Reports on PromptVersions: content hash, whether it can be used, and by whom. Changes nothing else.

Called by the work queue for one PromptVersion at a time. Prompts reach revisions through `serin.resolve`, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from serin.api.parse import parse_promptversion
from serin.api.promptversion import PromptVersionSpec
from serin.api.status import PromptVersionStatus
from serin.cluster.port import LLMDEPLOYMENT, PROMPTVERSION, Cluster
from serin.errors import SpecError
from serin.kube_types import Key, Object
from serin.reporting.prompt_status import prompt_status
from serin.workqueue import FORGET


@dataclass(frozen=True)
class PromptReconciler:
    """Keeps the status of PromptVersions."""

    cluster: Cluster
    clock: Callable[[], datetime]

    async def reconcile(self, key: Key) -> timedelta | None:
        """Look at one PromptVersion; it needs no second look until something happens.

        Raises:
            ClusterError: the API server could not be asked or refused the write.
        """
        obj = await self.cluster.get(PROMPTVERSION, *key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return FORGET
        spec: PromptVersionSpec | str
        try:
            spec = parse_promptversion(obj)
        except SpecError as error:
            spec = str(error)
        users = await self.cluster.list(LLMDEPLOYMENT, key[0], labels={})
        used_by = [user["metadata"]["name"] for user in users if _refers(user, key[1])]
        generation, before = obj["metadata"]["generation"], _before(obj)
        after = prompt_status(spec, generation=generation, used_by=used_by, now=self.clock(), before=before)
        new = after.model_dump(by_alias=True, exclude_none=True, mode="json")
        if new != obj.get("status"):
            meta = {name: obj["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
            body = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "status": new}
            await self.cluster.apply_status(PROMPTVERSION, body)
        return None


def _refers(user: Object, prompt: str) -> bool:
    return bool((user.get("spec", {}).get("prompt") or {}).get("name") == prompt)


def _before(obj: Object) -> PromptVersionStatus:
    """The status so far; one that cannot be read counts as lost."""
    try:
        return PromptVersionStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return PromptVersionStatus()
