"""A split as an HTTPRoute of Gateway API v1.

Serin owns the whole route, because `backendRefs` is an atomic list. Each backend carries filters that name its
revision: in the request for the engine, in the response so that a client can tell who answered. Requests also carry the
epoch, the number of the split that sent them: weights and number change in one update, so a request that is answered
late is still counted with those that arrived under the same weights. Tried with Contour 1.33, which serves both per
backend; a dropped filter would turn a canary into a test of the stable against itself.
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
"""Inference as clients speak it (vLLM 0.32). Not here, hence not public: adapter administration, tokenizer, metrics."""

_GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
_SERVED = ("Accepted", "ResolvedRefs")
_EPOCHS = frozenset(map(str, range(EPOCHS)))


@dataclass(frozen=True)
class GatewayApiRouter:
    """`serin.routers.port.Router` for HTTPRoutes."""

    name_in_response: bool = True
    """Whether answers carry the revision; off for gateways that filter responses only per rule."""
    api_version: str = "gateway.networking.k8s.io/v1"
    kind: str = "HTTPRoute"

    def render(self, owner: Owner, spec: Routing, weights: Mapping[str, int], epoch: int) -> dict[str, Any]:
        """See `Router.render`."""
        if sum(weights.values()) != FULL_WEIGHT or min(weights.values()) < 0:
            raise ValueError(f"Weights {dict(weights)} are no split; they must be 0 or more and sum to {FULL_WEIGHT}.")
        gateway = spec.gateway
        rule: dict[str, Any] = {
            "matches": gateway.matches or [{"path": {"type": "PathPrefix", "value": path}} for path in SERVED_PATHS],
            # Envoy would cut every stream after 15 seconds, its default.
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
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": owner.metadata(owner.name, common_labels(owner.name, "route")),
            "spec": route,
        }

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """See `Router.read`."""
        if obj is None:
            return NO_ROUTE
        verdicts = [_Verdict.of(obj, ref) for ref in (obj.get("spec") or {}).get("parentRefs") or ()]
        return RouteView(
            weights=_weights(obj, owner_name),
            programmed=bool(verdicts) and all(verdict.served for verdict in verdicts),
            accepted=bool(verdicts) and all(verdict.accepted for verdict in verdicts),
            refused=next((verdict.refused for verdict in verdicts if verdict.refused), None),
            changed_at=_changed_at(obj),
            epoch=_epoch(obj),
        )

    def _backend(self, owner: Owner, revision: str, weight: int, epoch: int) -> dict[str, Any]:
        name = {"name": REVISION_HEADER, "value": revision}
        stamp = {"set": [name, {"name": EPOCH_HEADER, "value": str(epoch)}]}
        filters: list[dict[str, Any]] = [{"type": "RequestHeaderModifier", "requestHeaderModifier": stamp}]
        if self.name_in_response:
            filters.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [name]}})
        service = child_name(owner.name, revision)
        return {"group": "", "kind": "Service", "name": service, "port": PORT, "weight": weight, "filters": filters}


@dataclass(frozen=True)
class _Verdict:
    """What one parent says about the route at its current generation."""

    served: bool = False
    accepted: bool = False
    """At any generation: what was accepted last goes on being served while a change is looked at."""
    refused: str | None = None

    @classmethod
    def of(cls, obj: Mapping[str, Any], ref: Mapping[str, Any]) -> _Verdict:
        """Several controllers may answer for one parent; one that serves the route is enough."""
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
    """A parent with its defaults, so that two ways of writing it are equal."""
    full = _GATEWAY | {"namespace": metadata.get("namespace")} | {k: v for k, v in ref.items() if v is not None}
    return tuple(full.get(field) for field in ("group", "kind", "namespace", "name", "sectionName", "port"))


def _refusal(conditions: Iterable[Mapping[str, Any]], ref: Mapping[str, Any]) -> str | None:
    for condition in conditions:
        if condition.get("type") in _SERVED and condition.get("status") == "False":
            reason, message = condition.get("reason"), str(condition.get("message", "")).strip().rstrip(".")
            said = ": ".join(part for part in (reason, message) if part)
            return f"Gateway {ref.get('name')} refuses the route ({said}); correct spec.routing or the Gateway."
    return None


def _weights(obj: Mapping[str, Any], owner_name: str) -> dict[str, int]:
    """Weights by revision in parts of 10,000, also when someone wrote others into the route: the share is the truth.

    What gets any traffic never reads as 0: at 0 a backend may be removed.
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
    """The number that every backend stamps; None where they differ, one does not, or it is none of ours."""
    rules = (obj.get("spec") or {}).get("rules") or ()
    stamps = {_stamp(backend) for rule in rules for backend in rule.get("backendRefs") or ()}
    text = stamps.pop() if len(stamps) == 1 else ""
    return int(text) if text in _EPOCHS else None


def _stamp(backend: Mapping[str, Any]) -> str:
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
