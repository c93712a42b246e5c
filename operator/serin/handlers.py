"""kopf's watches: each watch event marks keys on the work queue.

Started by `operator_process` when this process leads. Only `on.event` is used, so kopf writes nothing: no finalizers,
no annotations, no Events. The handlers decide nothing and store only which LLMDeployment uses which PromptVersion; a
reconcile reads the objects itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import kopf

from serin.api.names import LABEL_DEPLOYMENT, SPLIT
from serin.cluster.port import (
    CONFIG_MAP,
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
from serin.manifests.owner import LABEL_COMPONENT
from serin.prompt_users import PromptUsers, prompt_of
from serin.settings import Settings

CHILDREN = (DEPLOYMENT, POD, SERVICE, HTTP_ROUTE, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET, CONFIG_MAP)
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


CHUNK_SIZE = 200
"""Objects in one answer to a list request."""


class Wakers:
    """Marks keys on watch events.

    Args:
        mark: called with the key of an LLMDeployment to reconcile.
        mark_prompt: called with the key of a PromptVersion to reconcile.
        users: which LLMDeployments use which PromptVersion; updated here.
    """

    def __init__(self, mark: Callable[[Key], None], mark_prompt: Callable[[Key], None], users: PromptUsers) -> None:
        self._mark = mark
        self._mark_prompt = mark_prompt
        self._users = users

    def deployment(self, event: Mapping[str, Any]) -> None:
        """Handle an event of an LLMDeployment."""
        obj = event["object"]
        key = _key(obj)
        prompt = None
        if event["type"] != "DELETED":
            prompt = prompt_of(obj)
        before = self._users.see(key, prompt)
        self._mark(key)
        if before != prompt:
            # The status of a PromptVersion lists its users.
            for name in filter(None, (before, prompt)):
                self._mark_prompt((key[0], name))

    def prompt(self, event: Mapping[str, Any]) -> None:
        """Handle an event of a PromptVersion: mark it and the LLMDeployments that use it."""
        key = _key(event["object"])
        self._mark_prompt(key)
        for name in self._users.of(key):
            self._mark((key[0], name))

    def child(self, event: Mapping[str, Any]) -> None:
        """Handle an event of an object with the label `serin.dev/deployment`."""
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
    """A registry with the handlers of all watches."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)

    def watch(kind: Kind, wake: Callable[[Mapping[str, Any]], None]) -> None:
        # A coroutine, because kopf runs other handlers in threads and the queue belongs to this event loop.
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
    """kopf's settings: watch only Serin's children, restart streams regularly, write nothing."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.peering.standalone = True
    # kopf would copy every object recursively and read an annotation of it, only to compare it with nothing.
    result.persistence.diffbase_storage = _NoDiff()
    for kind in CHILDREN:
        group, _, version = kind.api_version.rpartition("/")
        result.watching.label_selectors[group, version, kind.plural] = LABEL_DEPLOYMENT
    # Not the trial states, which Serin itself writes all the time.
    result.watching.label_selectors["", "v1", CONFIG_MAP.plural] = f"{LABEL_DEPLOYMENT},{LABEL_COMPONENT}={SPLIT}"
    # The server ends each stream after this time, so a dead stream is replaced soon.
    result.watching.server_timeout = 300
    # Without it kopf reads all objects of a kind as one answer: 50,000 records are 1 GiB of memory.
    result.watching.chunk_size = CHUNK_SIZE
    result.watching.client_timeout = 330
    result.watching.connect_timeout = 10
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 10
    # kopf finds kinds that are installed later by watching CRDs, which namespaced RBAC does not allow.
    result.scanning.disabled = bool(settings.watch_namespaces)
    # How long kopf keeps a worker per object after its last event; these handlers need none.
    result.queueing.idle_timeout = 0.5
    # These handlers finish at once; if a task does not stop in this time, it hangs and the process must end.
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


async def _login(settings: kopf.OperatorSettings, **kwargs: Any) -> kopf.ConnectionInfo | None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return kopf.login_with_kubeconfig(settings=settings, **kwargs)
    # kopf's own login uses kubernetes.default.svc, which fails while cluster DNS is down.
    # kopf calls this again when the API server rejects the token; by then the kubelet has renewed the file.
    return kopf.ConnectionInfo(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca_path=str(_ACCOUNT / "ca.crt"),
        token=(_ACCOUNT / "token").read_text().strip(),
    )
