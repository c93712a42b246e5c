"""Converts a split between backends to an HTTPRoute of Gateway API v1 and back.

Serin owns the whole route, because `backendRefs` is an atomic list. One header filter of the rule adds the epoch and a
token to every request; the pods know their revision. Weights and epoch change in one update, so a request that ends
late is counted with the requests that arrived under the same weights.

As long as one backend's pods are of Serin 0.1, which read the revision from a header too, every backend has a filter of
its own instead: Envoy applies the rule's filter after that of the backend. A gateway must then support filters per
backend.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serin.analysis.counts import EPOCHS
from serin.api.names import ANNOTATION_SEQUENCE, FULL_WEIGHT, PORT, child_name
from serin.manifests.observed import applied_at
from serin.manifests.owner import common_labels
from serin.manifests.split_document import token_of
from serin.rollout.snapshot import NO_ROUTE, RouteView
from serin.routers.port import Backend

if TYPE_CHECKING:
    from serin.api.llmdeployment import Routing
    from serin.manifests.owner import Owner

REVISION_HEADER = "x-serin-revision"
EPOCH_HEADER = "x-serin-epoch"
PIN_HEADER = "x-serin-pin"

SERVED_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/models",
)
"""Inference paths of vLLM 0.32, matched exactly. Other paths are not routed: adapter administration, tokenizer,
metrics, and paths below these that a later vLLM may add."""

_GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
_SERVED = ("Accepted", "ResolvedRefs")
_STAMP = re.compile(r"(0|[1-9][0-9]?)(?:\.[0-9a-f]+)?")
_SEQUENCE = re.compile(r"[0-9]{1,15}")
_OURS = frozenset({REVISION_HEADER, EPOCH_HEADER, PIN_HEADER})
_REQUEST_FILTER = ("RequestHeaderModifier", "requestHeaderModifier")


@dataclass(frozen=True)
class GatewayApiRouter:
    """Implements `serin.routers.port.Router` with HTTPRoutes."""

    def render(self, owner: Owner, spec: Routing, backends: Sequence[Backend], sequence: int) -> dict[str, Any]:
        """See `Router.render`."""
        weights = [backend.weight for backend in backends]
        if sum(weights) != FULL_WEIGHT or min(weights) < 0:
            written = {backend.name: backend.weight for backend in backends}
            raise ValueError(f"Weights {written} are not a split; each must be at least 0 and their sum {FULL_WEIGHT}.")
        gateway, epoch = spec.gateway, sequence % EPOCHS
        stamped = f"{epoch}.{token_of(owner)}"
        legacy = any(backend.revision is not None for backend in backends)
        rule: dict[str, Any] = {
            "matches": gateway.matches or [{"path": {"type": "Exact", "value": path}} for path in SERVED_PATHS],
            # Envoy's default timeout of 15 seconds would end every long stream.
            "timeouts": {"request": "0s"} | gateway.timeouts,
            "backendRefs": [_reference(owner, backend) for backend in backends],
        }
        if legacy:
            for ref, backend in zip(rule["backendRefs"], backends, strict=True):
                ref["filters"] = _backend_filters(backend, epoch, stamped, reveal=spec.reveal_revision)
        theirs = [wanted for wanted in map(_without_ours, gateway.filters) if wanted]
        if filters := theirs if legacy else _with_stamp(theirs, stamped):
            rule["filters"] = filters
        route: dict[str, Any] = {
            "parentRefs": [ref.model_dump(by_alias=True, exclude_none=True) for ref in gateway.parent_refs],
            "rules": [rule],
        }
        if gateway.hostnames:
            route["hostnames"] = gateway.hostnames
        metadata = owner.metadata(owner.name, common_labels(owner.name, "route"))
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata | {"annotations": {ANNOTATION_SEQUENCE: str(sequence)}},
            "spec": route,
        }

    def reweight(
        self, owner: Owner, obj: Mapping[str, Any], backends: Sequence[Backend], sequence: int
    ) -> dict[str, Any] | None:
        """See `Router.reweight`."""
        weights = {child_name(owner.name, backend.name): backend.weight for backend in backends}
        route: dict[str, Any] = copy.deepcopy(dict(obj.get("spec") or {}))
        epoch = sequence % EPOCHS
        for rule in route.get("rules") or ():
            refs = [ref for ref in rule.get("backendRefs") or () if ref["name"] in weights]
            if sum(weights[ref["name"]] for ref in refs) != FULL_WEIGHT:
                return None
            rule["backendRefs"] = refs
            for ref in refs:
                ref["weight"] = weights[ref["name"]]
            for holder in (rule, *refs):
                _restamp(holder.get("filters"), epoch, f"{epoch}.{token_of(owner)}")
        metadata = owner.metadata(owner.name, common_labels(owner.name, "route"))
        return {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": metadata | {"annotations": {ANNOTATION_SEQUENCE: str(sequence)}},
            "spec": route,
        }

    def read(self, obj: Mapping[str, Any] | None, owner_name: str) -> RouteView:
        """See `Router.read`."""
        if obj is None:
            return NO_ROUTE
        weights, epoch = _weights(obj, owner_name), _epoch(obj)
        parents = [_ParentStatus.of(obj, ref) for ref in (obj.get("spec") or {}).get("parentRefs") or ()]
        return RouteView(
            weights=weights,
            programmed=bool(parents) and all(parent.served for parent in parents),
            accepted=bool(parents) and all(parent.accepted for parent in parents),
            refused=next((parent.refused for parent in parents if parent.refused), None),
            changed_at=applied_at(obj),
            epoch=epoch,
            sequence=_sequence(obj, epoch),
            backends=tuple(weights),
        )


def _restamp(filters: Any, epoch: int, stamped: str) -> None:
    """Put another epoch into filters that set one, in the form that they have it in."""
    for wanted in filters or ():
        for header in (wanted.get("requestHeaderModifier") or {}).get("set") or ():
            if _header_name(header) == EPOCH_HEADER:
                header["value"] = stamped if "." in str(header.get("value")) else str(epoch)


def _reference(owner: Owner, backend: Backend) -> dict[str, Any]:
    name = child_name(owner.name, backend.name)
    return {"group": "", "kind": "Service", "name": name, "port": PORT, "weight": backend.weight}


def _backend_filters(backend: Backend, epoch: int, stamped: str, *, reveal: bool) -> list[dict[str, Any]]:
    """The filters of one backend of a route that has pods of Serin 0.1, which read an epoch without token."""
    name = {"name": REVISION_HEADER, "value": backend.revision}
    if backend.revision is None:
        modifier: dict[str, Any] = {"set": [{"name": EPOCH_HEADER, "value": stamped}], "remove": [REVISION_HEADER]}
        return [_request_filter(modifier)]
    filters = [_request_filter({"set": [name, {"name": EPOCH_HEADER, "value": str(epoch)}]})]
    if reveal:  # the middleware of these pods does not name the revision
        filters.append({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [name]}})
    return filters


def _request_filter(modifier: Mapping[str, Any]) -> dict[str, Any]:
    type_, field = _REQUEST_FILTER
    return {"type": type_, field: modifier}


def _without_ours(wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """A user's filter without the headers of Serin, or None if nothing is left of it."""
    type_, field = _REQUEST_FILTER
    modifier = wanted.get(field)
    if wanted.get("type") != type_ or not isinstance(modifier, Mapping):
        return dict(wanted)
    kept: dict[str, Any] = dict(modifier)
    for action in ("set", "add"):
        if isinstance(headers := modifier.get(action), list):
            kept[action] = [header for header in headers if _header_name(header) not in _OURS]
    if isinstance(removed := modifier.get("remove"), list):
        kept["remove"] = [name for name in removed if str(name).lower() not in _OURS]
    kept = {action: headers for action, headers in kept.items() if headers}
    return dict(wanted) | {field: kept} if kept else None


def _with_stamp(filters: Sequence[Mapping[str, Any]], stamped: str) -> list[dict[str, Any]]:
    """The user's filters, without Serin's headers, and the stamp: a rule may have only one filter of its type."""
    type_, field = _REQUEST_FILTER
    theirs = next((wanted for wanted in filters if wanted.get("type") == type_), None)
    modifier = dict((theirs or {}).get(field) or {})
    modifier["set"] = [*(modifier.get("set") or ()), {"name": EPOCH_HEADER, "value": stamped}]
    modifier["remove"] = [*(modifier.get("remove") or ()), REVISION_HEADER, PIN_HEADER]
    merged = _request_filter(modifier)
    if theirs is None:
        return [*map(dict, filters), merged]
    return [merged if wanted is theirs else dict(wanted) for wanted in filters]


def _header_name(header: Any) -> str:
    return str(header.get("name")).lower() if isinstance(header, Mapping) else ""


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
    """The epoch that every request gets; None if backends differ, one sets none, or the value is not an epoch.

    The rule's filter is applied last, so it counts if it sets one.
    """
    values: set[int | None] = set()
    for rule in (obj.get("spec") or {}).get("rules") or ():
        stamps = _stamps(rule.get("filters"))
        by_backend = [_stamps(backend.get("filters")) for backend in rule.get("backendRefs") or ()]
        values |= {_number(found) for found in ([stamps] if stamps else by_backend)}
    return values.pop() if len(values) == 1 else None


def _stamps(filters: Any) -> list[str]:
    return [
        str(header.get("value"))
        for wanted in filters or ()
        for header in (wanted.get("requestHeaderModifier") or {}).get("set") or ()
        if _header_name(header) == EPOCH_HEADER
    ]


def _number(stamps: Sequence[str]) -> int | None:
    found = _STAMP.fullmatch(stamps[0]) if len(stamps) == 1 else None
    return int(found[1]) if found and int(found[1]) < EPOCHS else None


def _sequence(obj: Mapping[str, Any], epoch: int | None) -> int | None:
    """The number of the split: that of the annotation, raised if it is missing or of another epoch."""
    text = str(((obj.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION_SEQUENCE, ""))
    written = int(text) if _SEQUENCE.fullmatch(text) else None
    if epoch is None:
        return written
    return (written or 0) + (epoch - (written or 0)) % EPOCHS
