"""Which pods use the current split document of their engine, as far as that is known.

A pod switches when its kubelet has delivered the document and each of its processes has loaded it. The pods show that
as a series, so it is known one scrape later. A pod without samples is unknown, and never counts as switched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from serin.analysis.counts import ShownDocument
from serin.rollout.record import Record
from serin.rollout.snapshot import Snapshot

EVICT_AFTER = timedelta(seconds=120)
"""A pod that has not switched so long after a rollback is evicted; kubelets deliver within 90 seconds by themselves."""


@dataclass(frozen=True)
class Switch:
    """How far the Ready pods of an engine revision have switched."""

    pods: int
    """Ready pods; the others get no requests, and load the current document when they start."""
    behind: tuple[str, ...] = ()
    """Those that show another document, by name."""
    unknown: int = 0
    """How many have no sample."""
    refusing: tuple[str, ...] = ()
    """Those that refuse the document, by name."""

    @property
    def done(self) -> bool:
        """Whether every pod is known to have switched."""
        return not self.behind and not self.unknown

    @property
    def sentence(self) -> str:
        """How many pods have not switched, and of how many that is not known."""
        if self.unknown == self.pods and self.pods:
            of = "the pod has" if self.pods == 1 else f"the {self.pods} pods have"
            return f"It is not known whether {of} switched: Prometheus has no sample of serin_split_info."
        waiting = len(self.behind) + self.unknown
        if not waiting:
            return "The pod has switched." if self.pods == 1 else f"All {self.pods} pods have switched."
        verb = ("pod has" if self.pods == 1 else "pods has") if waiting == 1 else "pods have"
        unknown = f"; {self.unknown} of them without a sample of serin_split_info" if self.unknown else ""
        return f"{waiting} of {self.pods} {verb} not switched yet{unknown}."


def switch_of(snapshot: Snapshot, engine_revision: str) -> Switch:
    """How far the pods of an engine revision have switched to its stored document."""
    engine, split = snapshot.engines.get(engine_revision), snapshot.splits.get(engine_revision)
    names = sorted(pod.name for pod in engine.pods if pod.ready and not pod.deleting) if engine else []
    if split is None:  # it is written again first
        return Switch(len(names), unknown=len(names))
    shown = _by_pod(snapshot.readings.documents.get(engine_revision, {}), names)
    return Switch(
        len(names),
        behind=tuple(name for name, document in shown.items() if document.digests != {split.digest}),
        unknown=max(0, len(names) - len(shown)),
        refusing=tuple(name for name, document in shown.items() if document.refused),
    )


def is_new_to_pods(snapshot: Snapshot, record: Record) -> bool:
    """Whether the only revision of an engine's document is, or is about to be, another one since a moment.

    Pods get a document within a second after the write. Pods that split themselves get a revision with its weight.
    """
    split = snapshot.splits.get(record.engine_revision)
    if split is None or len(split.revisions) > 1:
        return False
    changed = split.changed_at is not None and snapshot.now - split.changed_at < _settling(snapshot)
    return changed or record.revision not in split.revisions


def times_left(snapshot: Snapshot, engine_revision: str) -> list[timedelta]:
    """The times until the age of a document changes what is decided; those that are over are left out."""
    split = snapshot.splits.get(engine_revision)
    if split is None or split.changed_at is None:
        return []
    ages = (_settling(snapshot), EVICT_AFTER, snapshot.spec.rollout.drain_timeout)
    age = snapshot.now - split.changed_at
    return [left for left in (each - age for each in ages) if left > timedelta()]


def pod_to_evict(snapshot: Snapshot, engine_revision: str) -> str | None:
    """A pod that a rollback is to evict, because it shows another document long after the change; else None."""
    split = snapshot.splits.get(engine_revision)
    if split is None or split.changed_at is None or snapshot.now - split.changed_at < EVICT_AFTER:
        return None
    shown = snapshot.readings.documents.get(engine_revision, {})
    engine = snapshot.engines.get(engine_revision)
    pods = {pod.name for pod in engine.pods} if engine else set()  # a target need not have the name of its pod
    behind = pods.intersection(switch_of(snapshot, engine_revision).behind)
    # An older sample is of a time at which it need not have switched.
    return min((pod for pod in behind if shown[pod].at - split.changed_at >= EVICT_AFTER / 2), default=None)


def _settling(snapshot: Snapshot) -> timedelta:
    """How long pods may lack a document after its write; a second more, because times are whole seconds."""
    return timedelta(seconds=snapshot.policy.settle_seconds + 1)


def _by_pod(shown: Mapping[str, ShownDocument], names: list[str]) -> dict[str, ShownDocument]:
    """What the Ready pods show; all targets where their labels do not name pods."""
    named = {name: shown[name] for name in names if name in shown}
    return named or (dict(shown) if len(shown) >= len(names) else {})
