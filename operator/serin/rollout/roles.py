"""Which revision is the stable, and which records are closed or pruned: read from the records and the route."""

from __future__ import annotations

from dataclasses import replace

from serin.analysis.trial_state import revision_of
from serin.api.names import FULL_WEIGHT
from serin.rollout.commands import names
from serin.rollout.record import Record
from serin.rollout.snapshot import Fact, Snapshot

MOST_OLD_REVISIONS = 20
"""Each reconcile reads all records of its LLMDeployment. The API accepts more, as it did before."""


def find_stable(snapshot: Snapshot) -> Record | None:
    """The record promoted last, unless another revision has taken over whose record is lost; None if none is known.

    A record on trial, or rejected, is never the stable. Records may come back from a backup without their annotations,
    or be rebuilt from their Deployments; then the route, or what runs, shows which revision was promoted. That record
    is returned as promoted, so that the promotion is stored before the split changes.
    """
    newest = max(_promoted(snapshot), key=lambda r: r.promotion or 0, default=None)
    if newest and not _is_superseded(snapshot, newest):
        return newest
    return _without_promotion(snapshot) or newest


def promoted_serve(snapshot: Snapshot) -> bool:
    """Whether a promoted revision serves; if not, the record or the promotion of the one that does is lost."""
    return any(_serves(snapshot, record) for record in _promoted(snapshot))


def _promoted(snapshot: Snapshot) -> list[Record]:
    return [r for r in snapshot.records if is_proven(r)]


def is_proven(record: Record) -> bool:
    """Whether a record says that its revision was promoted, and nothing against it."""
    return record.promotion is not None and not is_doubtful(record)


def is_doubtful(record: Record) -> bool:
    """Whether a record is on trial or rejected; it may have been promoted long ago."""
    return bool(record.trial or record.rejection)


def _is_superseded(snapshot: Snapshot, newest: Record) -> bool:
    """Whether the records show an earlier stable, because that of the present one is lost, or its promotion."""
    if promoted_serve(snapshot):
        return False
    return _others_serve(snapshot) or (newest.engine_revision not in snapshot.engines and bool(_running(snapshot)))


def _serves(snapshot: Snapshot, record: Record) -> bool:
    """Whether a revision gets requests, or its Ready pods are still in the route."""
    weights = snapshot.route.weights
    if weights.get(record.revision):
        return True
    # A revision that has the weight may have been promoted; then these pods leave.
    ready = record.revision in weights and _is_ready(snapshot, record.engine_revision)
    return ready and not _others_serve(snapshot)


def _others_serve(snapshot: Snapshot) -> bool:
    """Whether a revision gets requests that is neither promoted nor on trial or rejected: its promotion is lost."""
    trusted = {r.revision for r in snapshot.records if is_proven(r) or is_doubtful(r)}
    return any(weight and revision not in trusted for revision, weight in _weights(snapshot).items())


def _without_promotion(snapshot: Snapshot) -> Record | None:
    """The stable by route, or without a route by what runs, as promoted."""
    weights, target = _weights(snapshot), snapshot.target
    number = next_promotion(snapshot.records)
    if target and not target.recorded and weights.get(target.revision) == FULL_WEIGHT:
        return replace(target, promotion=number)
    claims = _claimants(snapshot)
    return replace(claims[0], promotion=number) if len(claims) == 1 else None


def _claimants(snapshot: Snapshot) -> list[Record]:
    """Records that may have lost the promotion of the stable: of those that serve, else of those that run."""
    weights, target, state = _weights(snapshot), snapshot.target, snapshot.saved_state
    able = [r for r in _able(snapshot) if weights.get(r.revision)]
    if any(weights.values()) and (_unknown(snapshot) or not able):
        return []
    able = able or _running(snapshot)
    # The target is the one that may not have been proven.
    claims = [r for r in able if target is None or r.revision != target.revision] or able
    names = {r.revision for r in able}
    if len(claims) > 1 and state and {state.against, revision_of(state)} <= names:
        return [r for r in claims if r.revision == state.against]
    return claims


def _able(snapshot: Snapshot) -> list[Record]:
    """Records that may have lost their promotion."""
    return [r for r in snapshot.records if r.promotion is None and not is_doubtful(r)]


def _running(snapshot: Snapshot) -> list[Record]:
    """Those with Ready pods. If nothing was ever tried, not the target: it may be installing.

    Another revision is never installed over them: the annotations of all records may be lost, and the route too.
    """
    tried = any(r.promotion is not None or is_doubtful(r) for r in snapshot.records)
    target = snapshot.target.revision if snapshot.target else None
    able = [r for r in _able(snapshot) if tried or not r.recorded or r.revision != target]
    return [r for r in able if _is_ready(snapshot, r.engine_revision)]


def _is_ready(snapshot: Snapshot, engine_revision: str) -> bool:
    engine = snapshot.engines.get(engine_revision)
    return engine is not None and engine.ready > 0


def _unknown(snapshot: Snapshot) -> set[str]:
    """Revisions that get requests and have no record, not even one that cannot be read."""
    return {r for r, weight in _weights(snapshot).items() if weight} - _known(snapshot)


def _known(snapshot: Snapshot) -> set[str]:
    """Revisions that have a record, also if it cannot be read."""
    return {r.revision for r in snapshot.records} | snapshot.unreadable_records.keys()


def _weights(snapshot: Snapshot) -> dict[str, int]:
    """The weights of the route, without those of revisions that have neither a record nor pods: they serve nobody."""
    known = _known(snapshot)
    return {r: w for r, w in snapshot.route.weights.items() if r in known or _may_run(snapshot, r)}


def _may_run(snapshot: Snapshot, revision: str) -> bool:
    """Whether a revision without a record may have pods. Where they read no document, it does not have their name."""
    if not snapshot.pods_are_known or Fact.DOCUMENTS in snapshot.unread:
        return True
    in_pods = {
        name for engine, split in snapshot.splits.items() if engine in snapshot.engines for name in split.revisions
    }
    reading = {r.engine_revision for r in snapshot.records if r.resolved.reads_split}
    return revision in {*in_pods, *snapshot.engines} or not reading or not snapshot.engines.keys() <= reading


def unrecorded(snapshot: Snapshot, stable: Record | None) -> tuple[str, ...]:
    """What may be the stable although it has no record, or no promotion: nothing may be decided until it has one.

    Revisions that get requests; without a route, engine revisions with Ready pods. Empty if the stable is known.
    """
    if stable and (_serves(snapshot, stable) or stable.promotion == next_promotion(snapshot.records)):
        return ()  # the others are canaries, and leave
    if unknown := _unknown(snapshot):
        return tuple(sorted(unknown))
    is_deployed = stable is not None and stable.engine_revision in snapshot.engines
    if not is_deployed and (lost := _tried_against(snapshot)):
        return (lost,)
    if stable is None or _is_superseded(snapshot, stable):
        claims = sorted(record.revision for record in _claimants(snapshot))
        if len(claims) > 1:
            return tuple(claims)
    known = {r.engine_revision for r in (*snapshot.records, *([stable] if stable else []))}
    known |= {snapshot.target.engine_revision} if snapshot.target else set()
    running = {engine for engine in snapshot.engines.keys() - known if _is_ready(snapshot, engine)}
    return () if is_deployed or any(_weights(snapshot).values()) else tuple(sorted(running))


def _tried_against(snapshot: Snapshot) -> str | None:
    """The stable that the target is on trial against, if its record is lost and the target's pods may serve it."""
    target = snapshot.target
    if target is None or target.trial is None or target.rejection or not target.trial.against:
        return None
    shared = target.resolved.serves_prompts and _is_ready(snapshot, target.engine_revision)
    serves = shared or any(snapshot.route.weights.values())
    return target.trial.against if serves and target.trial.against not in _known(snapshot) else None


def next_promotion(records: tuple[Record, ...]) -> int:
    """The number of the next promotion."""
    return max((r.promotion or 0 for r in records), default=0) + 1


def closed_trials(snapshot: Snapshot, keep: str | None) -> list[Record]:
    """Records without their trial, because the spec asks for another revision; the trial starts again if it returns."""
    return [replace(r, trial=None) for r in snapshot.records if r.trial and r.revision != keep and not r.rejection]


def prunable(snapshot: Snapshot, spared: set[str]) -> frozenset[str]:
    """The oldest records beyond `revisionHistoryLimit`; those in `spared` or in use do not count.

    In use are the revisions in the route and in split documents, and one record of each engine that runs: the oldest,
    from which its Deployment was made. The other prompts of that engine are history.
    """
    by_age = sorted(snapshot.records, key=lambda r: r.number)
    oldest = {r.engine_revision: r.revision for r in reversed(by_age) if r.engine_revision in snapshot.engines}
    in_pods = {revision for split in snapshot.splits.values() for revision in split.revisions}
    candidates = [
        r.revision
        for r in by_age
        if r.revision not in spared | set(oldest.values()) | in_pods | set(snapshot.route.weights)
        and not names(snapshot.command, r.revision)  # it has the token of the command that is still annotated
    ]
    excess = len(candidates) - min(snapshot.spec.revision_history_limit, MOST_OLD_REVISIONS)
    return frozenset(candidates[: max(0, excess)])
