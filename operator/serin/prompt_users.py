"""Which LLMDeployments use which PromptVersion: an index, so that an event of a prompt lists no LLMDeployments.

Filled by the watch events of `serin.handlers`; read by `serin.handlers`, to reconcile the users of a prompt, and by
`serin.prompt_reconciler`, for the status. A list per namespace, once in a while, fills it before the first events have
arrived and removes what a watch has missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from serin.kube_types import Key, Object

RELIST_EVERY = timedelta(minutes=30)


class PromptUsers:
    """Which LLMDeployments use which PromptVersion, according to their last watch event or list."""

    def __init__(self) -> None:
        self._prompt: dict[Key, str] = {}
        self._users: dict[Key, set[str]] = {}
        self._listed: dict[str, datetime] = {}
        self._seen_since: dict[str, set[str]] = {}
        """By namespace that is being listed, the names that had an event meanwhile."""

    def see(self, key: Key, prompt: str | None) -> str | None:
        """Store the PromptVersion that an LLMDeployment uses now; returns the previous one."""
        if key[0] in self._seen_since:
            self._seen_since[key[0]].add(key[1])
        return self._set(key, prompt)

    def of(self, prompt: Key) -> tuple[str, ...]:
        """Names of the LLMDeployments that use a PromptVersion, sorted."""
        return tuple(sorted(self._users.get(prompt, ())))

    def needs_list(self, namespace: str, now: datetime) -> bool:
        """Whether the namespace must be listed, because it never was or long ago."""
        listed = self._listed.get(namespace)
        return listed is None or now - listed >= RELIST_EVERY

    def begin_list(self, namespace: str) -> None:
        """Note that a list request of the namespace begins: events from now on are newer than its answer."""
        self._seen_since[namespace] = set()

    def end_list(self, namespace: str, found: Iterable[Object], now: datetime) -> None:
        """Store what the list request has found."""
        newer = self._seen_since.pop(namespace, set())
        listed = {obj["metadata"]["name"]: prompt_of(obj) for obj in found}
        known = {name for there, name in self._prompt if there == namespace}
        for name in (known | listed.keys()) - newer:
            self._set((namespace, name), listed.get(name))
        self._listed[namespace] = now

    def _set(self, key: Key, prompt: str | None) -> str | None:
        namespace, name = key
        before = self._prompt.pop(key, None)
        if before is not None:
            users = self._users[namespace, before]
            users.discard(name)
            if not users:
                del self._users[namespace, before]
        if prompt is not None:
            self._prompt[key] = prompt
            self._users.setdefault((namespace, prompt), set()).add(name)
        return before


def prompt_of(obj: Mapping[str, Any]) -> str | None:
    """The PromptVersion that an LLMDeployment names, as stored; None if there is none."""
    # An object stored under an older CRD may not match the current schema.
    spec = obj.get("spec")
    prompt = spec.get("prompt") if isinstance(spec, Mapping) else None
    name = prompt.get("name") if isinstance(prompt, Mapping) else None
    return name if isinstance(name, str) else None
