"""Converts a split to an HTTPRoute of Gateway API v1 and back.

Serin owns the whole route, because `backendRefs` is an atomic list. Filters of each backend add its revision to the
request, for the engine, and to the response, for clients. They also add the epoch to the request. Weights and epoch
change in one update, so a request that ends late is counted with the requests that arrived under the same weights. A
gateway must support both filters per backend (tested: Contour 1.33): without the request filter, the canary's pods
would answer as the stable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from serin.analysis.counts import EPOCHS
from serin.api.names import FIELD_MANAGER, FULL_WEIGHT, PORT, child_name
from serin.manifests.owner import common_labels
from serin.rollout.snapshot import NO_ROUTE, RouteView

if TYPE_CHECKING:
    from serin.api.llmdeployment import Routing
    from serin.manifests.owner import Owner

REVISION_HEADER = "x-serin-revision"
EPOCH_HEADER = "x-serin-epoch"

SERVED_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/models",
)
"""Inference paths of vLLM 0.32. Other paths are not routed: adapter administration, tokenizer, metrics."""

_GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
_SERVED = ("Accepted", "ResolvedRefs")
_EPOCHS = frozenset(map(str, range(EPOCHS)))


@dataclass(frozen=True)
class GatewayApiRouter:
    """Implements `serin.routers.port.Router` with HTTPRoutes."""

    def render(self, owner: Owner, spec: Routing, weights: Mapping[str, int], epoch: int) -> dict[str, Any]:
        """See `Router.render`."""
        if sum(weights.values()) != FULL_WEIGHT or min(weights.values()) < 0:
            raise ValueError(
                f"Weights {dict(weights)} are not a split; each must be at least 0 and their sum {FULL_WEIGHT}."
            )
        gateway = spec.gateway
        rule: dict[str, Any] = {
            "matches": gateway.matches or [{"path": {"type": "PathPrefix", "value": path}} for path in SERVED_PATHS],
            # Envoy's default timeout of 15 seconds would end every long stream.
            "timeouts": {"request": "0s"} | gateway.timeouts,
            "backendRefs": [self._backend(owner, revision, weights[revision], epoch) for revision in sorted(weights)],
        }
        if gateway.filters:
            rule["filters"] = gateway.filters
        route: dict[str, Any] = {
            "parentRefs": [ref.model_dump(by_alias=True, exclude_none=True) for ref in gateway.parent_refs],
            "rules": [rule],
        }
        if gateway.hostnames:
            route["hostnames"] = gateway.hostnames
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": owner.metadata(owner.name, common_labels(owner.name, "route")),
            "spec": route,
        }

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """See `Router.read`."""
        if obj is None:
            return NO_ROUTE
        parents = [_ParentStatus.of(obj, ref) for ref in (obj.get("spec") or {}).get("parentRefs") or ()]
        return RouteView(
            weights=_weights(obj, owner_name),
            programmed=bool(parents) and all(parent.served for parent in parents),
            accepted=bool(parents) and all(parent.accepted for parent in parents),
            refused=next((parent.refused for parent in parents if parent.refused), None),
            changed_at=_changed_at(obj),
            epoch=_epoch(obj),
        )

    def _backend(self, owner: Owner, revision: str, weight: int, epoch: int) -> dict[str, Any]:
        name = {"name": REVISION_HEADER, "value": revision}
        stamp = {"set": [name, {"name": EPOCH_HEADER, "value": str(epoch)}]}
        filters = [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": stamp},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [name]}},
        ]
        service = child_name(owner.name, revision)
        return {"group": "", "kind": "Service", "name": service, "port": PORT, "weight": weight, "filters": filters}


@dataclass(frozen=True)
class _ParentStatus:
    """Status of the route at one parent, for the route's current generation."""

    served: bool = False
    accepted: bool = False
    """For any generation: a gateway serves the last accepted generation until it has accepted a newer one."""
    refused: str | None = None

    @classmethod
    def of(cls, obj: Mapping[str, Any], ref: Mapping[str, Any]) -> _ParentStatus:
        """The status at the parent `ref`.

        Several controllers may report a status for one parent; one that serves the route is enough.
        """
        metadata = obj.get("metadata") or {}
        generation = metadata.get("generation")
        refused, accepted = None, False
        for entry in (obj.get("status") or {}).get("parents") or ():
            if _parent(entry.get("parentRef") or {}, metadata) != _parent(ref, metadata):
                continue
            current = [c for c in entry.get("conditions") or () if c.get("observedGeneration") == generation]
            if {c.get("type") for c in current if c.get("status") == "True"} >= set(_SERVED):
                return cls(served=True, accepted=True)
            accepted = accepted or any(
                c.get("type") == "Accepted" and c.get("status") == "True" for c in entry.get("conditions") or ()
            )
            refused = refused or _refusal(current, ref)
        return cls(accepted=accepted, refused=refused)


def _parent(ref: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    """A parent reference with its defaults, so that equivalent references are equal."""
    full = _GATEWAY | {"namespace": metadata.get("namespace")} | {k: v for k, v in ref.items() if v is not None}
    return tuple(full.get(field) for field in ("group", "kind", "namespace", "name", "sectionName", "port"))


def _refusal(conditions: Iterable[Mapping[str, Any]], ref: Mapping[str, Any]) -> str | None:
    for condition in conditions:
        if condition.get("type") in _SERVED and condition.get("status") == "False":
            reason, message = condition.get("reason"), str(condition.get("message", "")).strip().rstrip(".")
            explanation = ": ".join(part for part in (reason, message) if part)
            return f"Gateway {ref.get('name')} rejects the route ({explanation}); correct spec.routing or the Gateway."
    return None


def _weights(obj: Mapping[str, Any], owner_name: str) -> dict[str, int]:
    """Weights by revision in parts of 10,000, converted if the weights in the route have another sum.

    A backend with any traffic has at least 1, because a backend with 0 may be removed.
    """
    rules: Sequence[Mapping[str, Any]] = (obj.get("spec") or {}).get("rules") or ({},)
    backends: Sequence[Mapping[str, Any]] = rules[0].get("backendRefs") or ()
    prefix = child_name(owner_name, "")
    written = {backend["name"]: int(backend.get("weight", 1)) for backend in backends}
    total = sum(written.values()) or FULL_WEIGHT
    return {
        name.removeprefix(prefix): max(round(weight * FULL_WEIGHT / total), min(weight, 1))
        for name, weight in written.items()
        if name.startswith(prefix)
    }


def _epoch(obj: Mapping[str, Any]) -> int | None:
    """The epoch that all backends set; None if they differ, one sets none, or the value is not an epoch."""
    rules = (obj.get("spec") or {}).get("rules") or ()
    values = {_epoch_header(backend) for rule in rules for backend in rule.get("backendRefs") or ()}
    text = values.pop() if len(values) == 1 else ""
    return int(text) if text in _EPOCHS else None


def _epoch_header(backend: Mapping[str, Any]) -> str:
    found = [
        str(header.get("value"))
        for wanted in backend.get("filters") or ()
        for header in (wanted.get("requestHeaderModifier") or {}).get("set") or ()
        if str(header.get("name")).lower() == EPOCH_HEADER
    ]
    return found[0] if len(found) == 1 else ""


def _changed_at(obj: Mapping[str, Any]) -> datetime | None:
    times = [
        datetime.fromisoformat(entry["time"])
        for entry in (obj.get("metadata") or {}).get("managedFields") or ()
        if entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
        and entry.get("time")
    ]
    return max(times, default=None)
