"""The split by revision, from and to what carries it: the route between backends, the documents inside the pods. Pure.

The gateway splits between engines, and pods split between revisions that share their engine. Decisions know only
weights by revision: `combined` reads them from route and documents, and `carried` is the reverse. ADR 17 has the
reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from serin.analysis.counts import EPOCHS
from serin.api.names import FULL_WEIGHT
from serin.api.routing import Routing, Sticky
from serin.manifests.served_prompt import served_prompts
from serin.manifests.split_document import SplitDocument
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.record import Record
from serin.rollout.roles import is_doubtful, is_proven
from serin.rollout.route import is_settled
from serin.rollout.snapshot import RouteView, Snapshot
from serin.routers.port import Backend

Documents = Mapping[str, SplitDocument]
"""By engine revision."""
Measure = Callable[[str], Mapping[str, Any] | None]
"""What the pods of an engine revision measure by load for the trial."""
Checks = tuple[Mapping[str, Any], ...]


def combined(route: RouteView, documents: Documents, records: Iterable[Record]) -> RouteView:
    """The route with weights by revision, and with the epoch that requests get.

    Args:
        route: with weights by backend, as a router reads it.
        documents: those that exist and can be read.
        records: of the LLMDeployment.
    """
    known = {record.revision: record for record in records}
    engines = {record.engine_revision for record in known.values() if record.resolved.reads_split}
    weights: dict[str, int] = {}
    for backend, weight in route.weights.items():
        if backend in known and known[backend].resolved.backend == backend:
            parts = {backend: weight}
        elif backend in documents:
            parts = _parts(documents[backend].shares, weight)
        elif backend in engines:  # the document is lost
            served = _without_document(backend, known)
            parts = {served.revision if served else backend: weight}
        else:
            parts = {backend: weight}
        for revision, part in parts.items():
            weights[revision] = weights.get(revision, 0) + part
    splitting = [
        document
        for engine, document in documents.items()
        if document.epoch is not None and route.weights.get(engine, 0) > 0
    ]
    latest = max(splitting, key=lambda document: document.sequence, default=None)
    numbers = [document.sequence for document in documents.values()]
    numbers += [route.sequence] if route.sequence is not None else []
    return replace(
        route,
        weights=weights,
        epoch=latest.epoch if latest else route.epoch,
        sequence=max(numbers, default=None),
    )


@dataclass(frozen=True)
class Carried:
    """What carries a split."""

    backends: tuple[Backend, ...]
    """Of the route, in its order; empty: the route stays as it is."""
    sequence: int
    """The number that the route gets."""
    documents: Documents


def carried(
    snapshot: Snapshot,
    decision: Decision,
    route: RouteView,
    documents: Documents,
    *,
    token: str,
    measure: Measure,
    checks: Checks = (),
) -> Carried:
    """The route and the documents of a decision.

    Args:
        snapshot: the input of the decision.
        decision: what is wanted.
        route: the existing route by backend, as a router reads it.
        documents: those that exist and can be read.
        token: of the LLMDeployment.
        measure: what each engine's pods measure.
        checks: those that all pods make.
    """
    records = {r.revision: r for r in (*snapshot.records, *_roles(decision))}
    backends = _backends(decision, route, records, documents)
    settled = is_settled(snapshot.route, snapshot.now, snapshot.policy.settle_seconds)
    served = {name for name, weight in route.weights.items() if weight or not settled}
    resplit = _resplit(decision, documents, records)
    found = {
        engine: _shares(engine, decision, documents.get(engine), records, served=engine in served)
        for engine in decision.engines
        if any(r.engine_revision == engine and r.resolved.reads_split for r in records.values())
    }
    shares = {
        engine: parts
        for engine, parts in found.items()
        if parts and engine not in resplit and not _gains(engine, parts, documents.get(engine), snapshot, decision)
    }
    within_pods = any(len(shares.get(backend.name, ())) > 1 and backend.weight for backend in backends)
    latest = snapshot.route.sequence or 0
    sequence = decision.sequence if decision.sequence is not None else latest
    return Carried(
        backends=backends,
        sequence=_route_sequence(snapshot, decision, route, backends, within_pods=within_pods),
        documents={
            engine: _document(
                _with_prompts(
                    SplitDocument(
                        sequence=sequence,
                        shares=parts,
                        salt=parts[-1][0],
                        token=token,
                        epoch=sequence % EPOCHS if len(parts) > 1 else None,
                        reveal=snapshot.spec.routing.reveal_revision,
                        measure=measure(engine),
                        checks=checks,
                    ),
                    snapshot.spec.routing,
                    records,
                ),
                documents.get(engine),
                new_split=decision.sequence is not None,
            )
            for engine, parts in shares.items()
        }
        | resplit,
    )


def _resplit(decision: Decision, documents: Documents, records: Mapping[str, Record]) -> dict[str, SplitDocument]:
    """The documents that give weight to a revision without a readable record, with the new weights only."""
    found = dict[str, SplitDocument]()
    for engine, document in documents.items():
        names = [name for name, _ in document.shares]
        unknown = sum(decision.weights.get(name, 0) for name in names if name not in records)
        total = sum(decision.weights.get(name, 0) for name in names)
        if unknown == 0 or len(names) == 1 or decision.sequence is None:
            continue
        second = [(name, round(decision.weights.get(name, 0) * FULL_WEIGHT / total)) for name in names[1:]]
        shares = ((names[0], FULL_WEIGHT - sum(weight for _, weight in second)), *second)
        found[engine] = replace(document, shares=shares, sequence=decision.sequence, epoch=decision.sequence % EPOCHS)
    return found


def _gains(
    engine: str,
    parts: Iterable[tuple[str, int]],
    existing: SplitDocument | None,
    snapshot: Snapshot,
    decision: Decision,
) -> bool:
    """Whether another revision than the stable gets more in the pods than it has, although something was not read."""
    if not snapshot.unread or (existing is None and engine not in snapshot.engines and snapshot.pods_are_known):
        return False
    before = dict(existing.shares) if existing else {}
    stable = decision.stable.revision if decision.stable else None
    return any(share > before.get(revision, 0) for revision, share in parts if revision != stable)


def _with_prompts(document: SplitDocument, routing: Routing, records: Mapping[str, Record]) -> SplitDocument:
    """The document with what only pods that apply prompts read; for other pods it stays as it is."""
    served = {name: records[name].resolved for name, _ in document.shares if name in records}
    if not any(resolved.serves_prompts for resolved in served.values()):
        return document
    return replace(
        document,
        prompts={name: prompts for name, resolved in served.items() if (prompts := served_prompts(resolved))},
        key=_key(routing.sticky),
        access_log=routing.access_log,
    )


def _key(sticky: Sticky | None) -> Mapping[str, Any] | None:
    if sticky is None:
        return None
    return {"header": sticky.header.lower()} if sticky.header else {"conversation": {}}


def _document(wanted: SplitDocument, existing: SplitDocument | None, *, new_split: bool) -> SplitDocument:
    """The document with the number that it has already, if it changes no split."""
    if existing is None:
        return wanted
    if wanted.epoch is not None and existing.epoch is not None and not new_split:
        return replace(wanted, sequence=existing.sequence, epoch=existing.epoch)
    return existing if wanted.epoch is None and wanted.same_except_sequence(existing) else wanted


def _backends(
    decision: Decision, route: RouteView, records: Mapping[str, Record], documents: Documents
) -> tuple[Backend, ...]:
    """The backends in the order of the route, newcomers at the end: Envoy Gateway names clusters by position."""
    # Also for a revision whose record is gone, until its engine is.
    names = {revision: engine for engine, document in documents.items() for revision, _ in document.shares}
    names |= {revision: record.resolved.backend for revision, record in records.items()}
    wanted: dict[str, Backend] = {}
    for revision in sorted(decision.weights):
        name = names.get(revision, revision)
        weight = decision.weights[revision] + (wanted[name].weight if name in wanted else 0)
        wanted[name] = Backend(name, weight, revision if name == revision else None)
    order = [name for name in route.weights if name in wanted]
    return tuple(wanted[name] for name in [*order, *(name for name in wanted if name not in order)])


def _route_sequence(
    snapshot: Snapshot,
    decision: Decision,
    route: RouteView,
    backends: Iterable[Backend],
    *,
    within_pods: bool,
) -> int:
    """The number of the route's split; a change inside pods leaves the route untouched."""
    same = {backend.name: backend.weight for backend in backends} == dict(route.weights)
    moved_inside = within_pods or dict(decision.weights) != dict(snapshot.route.weights)
    if route.sequence is not None and route.epoch is not None and same and moved_inside:
        return route.sequence
    if decision.sequence is not None:
        return decision.sequence
    return route.sequence if route.sequence is not None else snapshot.route.sequence or 0


def _shares(
    engine: str,
    decision: Decision,
    existing: SplitDocument | None,
    records: Mapping[str, Record],
    *,
    served: bool,
) -> tuple[tuple[str, int], ...] | None:
    """The revisions of an engine with their weights in its pods, the one that is on trial last; at most two.

    None: no document is written, and one that is stored stays as it is.

    A backend that loses its weight may be `served` with the old one for a moment. Until that is over its pods keep what
    they have: another revision would get the old weight there, above the first step of its trial.
    """
    here = {r: w for r, w in decision.weights.items() if r in records and records[r].engine_revision == engine}
    total, before = sum(here.values()), dict(existing.shares) if existing else {}
    if total == 0:  # no route, or the backend is at 0
        return _without_weight(engine, decision, existing, records, served=served)
    canary = decision.canary.revision if decision.canary else None
    # Where a person promotes a third, the revision that leaves goes; else the third waits (`serin.rollout.drain`).
    kept = sorted(here, key=lambda r: (here[r] == 0, r != canary))[:2]
    # The order and with it the salt stay, so that a request of a key stays with its revision.
    order = [r for r in before if r in kept]
    kept = order if len(order) == len(kept) else sorted(kept, key=lambda r: (r == canary, r))
    # Rounded as in `_parts`, so that the weights that are read back are those that were decided.
    second = [(r, round(here[r] * FULL_WEIGHT / total)) for r in kept[1:]]
    return ((kept[0], FULL_WEIGHT - sum(weight for _, weight in second)), *second)


def _without_weight(
    engine: str,
    decision: Decision,
    existing: SplitDocument | None,
    records: Mapping[str, Record],
    *,
    served: bool,
) -> tuple[tuple[str, int], ...] | None:
    """See `_shares`, of an engine that the decision gives no weight.

    A revision with a role comes into the pods only if nothing else is served there, and if the decision says what is:
    otherwise they may have a stable whose record is lost.
    """
    kept = existing.shares if existing and {name for name, _ in existing.shares} <= records.keys() else None
    role = next((record for record in _roles(decision) if record.engine_revision == engine), None)
    decides = bool(decision.weights) or decision.phase is Phase.INSTALLING
    if existing and (served or role is None or not decides):
        return kept
    if role and (is_proven(role) or (decides and not served)):
        return ((role.revision, FULL_WEIGHT),)
    main = _without_document(engine, records)
    return ((main.revision, FULL_WEIGHT),) if main else None


def _parts(shares: Iterable[tuple[str, int]], weight: int) -> dict[str, int]:
    """A backend's weight, divided as its pods do; the sum is exact."""
    (first, _), *others = shares
    parts = {revision: round(weight * share / FULL_WEIGHT) for revision, share in others}
    return {first: weight - sum(parts.values())} | parts


def _without_document(engine: str, records: Mapping[str, Record]) -> Record | None:
    """The record that the pods of an engine serve if no document says so; None: not known.

    Pods that apply prompts may serve a stable whose record is lost, too. So it is never a rejected revision there, and
    one on trial only if its stable has other pods.
    """
    same = [record for record in records.values() if record.engine_revision == engine]
    newest = max(same, key=lambda record: (record.promotion or 0, record.rejection is None, record.number))
    if not newest.resolved.serves_prompts:  # their answers are all the same
        return newest
    on_trial = [record for record in same if record.trial and not record.rejection]
    if on_trial:
        canary = max(on_trial, key=lambda record: record.number)
        stable = records.get(canary.trial.against) if canary.trial else None
        return (stable if stable.engine_revision == engine else canary) if stable else None
    return newest if is_proven(newest) or (len(same) == 1 and not is_doubtful(newest)) else None


def _roles(decision: Decision) -> list[Record]:
    """The records with a role."""
    return [r for r in (decision.stable, decision.canary, decision.target) if r is not None]
