"""What wakes the reconciler: kopf's watches, each event turned into marks on the work queue.

Started by `serin.__main__` once this process leads. Only `on.event` is used, so kopf writes nothing: no finalizers, no
annotations, no Events. Nothing is decided here, and nothing that a handler was told is kept but who refers to which
PromptVersion; a reconcile looks for itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import kopf

from serin.api.names import LABEL_DEPLOYMENT
from serin.cluster.port import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    LLMDEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    PROMPTVERSION,
    SERVICE,
    Kind,
)
from serin.kube_types import Key
from serin.settings import Settings

CHILDREN = (DEPLOYMENT, POD, SERVICE, HTTP_ROUTE, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET)
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


CHUNK_SIZE = 200
"""Objects in one answer to a list request."""


class PromptUsers:
    """Which LLMDeployments refer to which PromptVersion, as their watch told last."""

    def __init__(self) -> None:
        self._prompt: dict[Key, str] = {}
        self._users: dict[Key, set[str]] = {}

    def see(self, key: Key, prompt: str | None) -> str | None:
        """Remember the reference of an LLMDeployment; returns the one it had before."""
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

    def of(self, prompt: Key) -> tuple[str, ...]:
        """Names of the LLMDeployments that refer to a PromptVersion, sorted."""
        return tuple(sorted(self._users.get(prompt, ())))


class Wakers:
    """Turns watch events into marks.

    Args:
        mark: an LLMDeployment is to be looked at.
        mark_prompt: a PromptVersion is to be looked at.
        users: who refers to which PromptVersion; kept up to date here.
    """

    def __init__(self, mark: Callable[[Key], None], mark_prompt: Callable[[Key], None], users: PromptUsers) -> None:
        self._mark = mark
        self._mark_prompt = mark_prompt
        self._users = users

    def deployment(self, event: Mapping[str, Any]) -> None:
        """An LLMDeployment was seen, changed or deleted."""
        obj = event["object"]
        key = _key(obj)
        prompt = None
        if event["type"] != "DELETED":
            prompt = _prompt_of(obj)
        before = self._users.see(key, prompt)
        self._mark(key)
        if before != prompt:
            # Who uses a PromptVersion is told in its status.
            for name in filter(None, (before, prompt)):
                self._mark_prompt((key[0], name))

    def prompt(self, event: Mapping[str, Any]) -> None:
        """A PromptVersion was seen, created or deleted: it and whoever refers to it are to be looked at."""
        key = _key(event["object"])
        self._mark_prompt(key)
        for name in self._users.of(key):
            self._mark((key[0], name))

    def child(self, event: Mapping[str, Any]) -> None:
        """Something that carries our label was seen, changed or deleted."""
        meta = event["object"]["metadata"]
        names = [(meta.get("labels") or {}).get(LABEL_DEPLOYMENT)]
        # Whoever changes that label must not keep its real owner from hearing of it.
        names += [
            ref["name"]
            for ref in meta.get("ownerReferences") or ()
            if ref.get("kind") == LLMDEPLOYMENT.kind and ref.get("apiVersion") == LLMDEPLOYMENT.api_version
        ]
        for name in dict.fromkeys(filter(None, names)):
            self._mark((meta["namespace"], name))


def make_registry(wakers: Wakers) -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)

    def watch(kind: Kind, wake: Callable[[Mapping[str, Any]], None]) -> None:
        # Coroutines, or kopf would run each event in a thread and the queue is of this loop.
        async def on_event(event: Any, **_: Any) -> None:
            wake(event)

        group, _, version = kind.api_version.rpartition("/")
        kopf.on.event(group, version, kind.plural, id=f"watch-{kind.plural}", registry=registry)(on_event)

    watch(LLMDEPLOYMENT, wakers.deployment)
    watch(PROMPTVERSION, wakers.prompt)
    for kind in CHILDREN:
        watch(kind, wakers.child)
    return registry


def make_kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """How kopf watches: our children only, streams that end and begin again, nothing written."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.peering.standalone = True
    # kopf would copy every object recursively and read an annotation of it, only to compare it with nothing.
    result.persistence.diffbase_storage = _NoDiff()
    for kind in CHILDREN:
        group, _, version = kind.api_version.rpartition("/")
        result.watching.label_selectors[group, version, kind.plural] = LABEL_DEPLOYMENT
    # A stream that the server ends regularly cannot be dead for long without anybody noticing.
    result.watching.server_timeout = 300
    # Without it kopf reads all objects of a kind as one answer: 50,000 records are 1 GiB of memory.
    result.watching.chunk_size = CHUNK_SIZE
    result.watching.client_timeout = 330
    result.watching.connect_timeout = 10
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 10
    # Kinds that are installed later are found by watching CRDs, which rights in single namespaces do not cover.
    result.scanning.disabled = bool(settings.watch_namespaces)
    # kopf keeps a worker per object for this long after its last event; ours have nothing to wait for.
    result.queueing.idle_timeout = 0.5
    # An event handler of ours ends at once; whatever does not end soon is stuck, and the process has to go.
    result.process.ultimate_exiting_timeout = 30
    return result


class _NoDiff(kopf.DiffBaseStorage):
    """Nothing is compared with what it was: a reconcile looks at the whole world."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        del body, extra_fields
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> None:
        del body

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


def _key(obj: Mapping[str, Any]) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _prompt_of(obj: Mapping[str, Any]) -> str | None:
    # Old objects may be shaped otherwise than today's schema demands.
    prompt = (obj.get("spec") or {}).get("prompt")
    name = prompt.get("name") if isinstance(prompt, Mapping) else None
    return name if isinstance(name, str) else None


async def _login(settings: kopf.OperatorSettings, **kwargs: Any) -> kopf.ConnectionInfo | None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return kopf.login_with_kubeconfig(settings=settings, **kwargs)
    # Not kopf's own login: it asks for kubernetes.default.svc, which needs a DNS that is up before anything else.
    # Asked again when the API server no longer takes the token; the kubelet has renewed the file long before.
    return kopf.ConnectionInfo(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_path=str(_ACCOUNT / "ca.crt"),
        token=(_ACCOUNT / "token").read_text().strip(),
    )
