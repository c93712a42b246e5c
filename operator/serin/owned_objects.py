"""Finds the objects that an LLMDeployment owns.

Called by the reconciler when it observes. Children are listed by label. A child that lost its label is read by name:
the route and the pods say which children are in use. Ownership is the uid in `ownerReferences`; a child that has lost
its owner is found too, and the plan adopts it. An object of another owner is never changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from serin.api.names import LABEL_DEPLOYMENT, SPLIT, child_name
from serin.cluster.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    POD,
    POD_DISRUPTION_BUDGET,
    PROMPTVERSION,
    SERVICE,
    Kind,
    Reader,
)
from serin.kube_types import Object
from serin.manifests.adoption import has_our_name, is_ours
from serin.manifests.controller_revision import UnreadableRecord, read_or_explain
from serin.manifests.observed import engine_of_pod
from serin.manifests.owner import LABEL_COMPONENT, Owner
from serin.manifests.rebuilt_record import deployed, lost_revisions, rebuilt
from serin.manifests.split_document import SplitDocument, engine_of_split, split_name
from serin.rollout.record import Record
from serin.rollout.snapshot import Fact
from serin.tolerant_reads import TolerantReads

LISTED_KINDS = (CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICE, POD_DISRUPTION_BUDGET, CONFIG_MAP)
_NEEDED = {Fact.RECORDS, Fact.DEPLOYMENTS, Fact.DOCUMENTS}
"""To know that a record is lost."""


@dataclass(frozen=True)
class OwnedObjects:
    """The children of one LLMDeployment by kind, in the order of `LISTED_KINDS`; pods belong to its Deployments."""

    records: list[Object]
    deployments: list[Object]
    pods: list[Object]
    services: list[Object]
    budgets: list[Object]
    splits: list[Object]
    """The ConfigMaps with split documents."""
    records_of_others: tuple[Object, ...] = ()
    """ControllerRevisions with the label and the name of a record that cannot be adopted."""
    rebuilt: tuple[Record, ...] = ()
    """Records of revisions that run and have no ControllerRevision."""

    @cached_property
    def _read(self) -> tuple[tuple[Record, ...], tuple[UnreadableRecord, ...]]:
        found = [read_or_explain(obj) for obj in self.records]
        stored = [record for record in found if isinstance(record, Record)]
        unreadable = tuple(record for record in found if isinstance(record, UnreadableRecord))
        names = {record.revision for record in found}
        lost = [record for record in self.rebuilt if record.revision not in names]
        return tuple(sorted((*stored, *lost), key=lambda record: record.number)), unreadable

    def read_records(self) -> tuple[Record, ...]:
        """The records of the ControllerRevisions that can be read and the rebuilt ones, oldest first; read once."""
        return self._read[0]

    def unreadable_records(self) -> tuple[UnreadableRecord, ...]:
        """What is known of the others."""
        return self._read[1]


async def list_owned(cluster: Reader, owner: Owner) -> OwnedObjects:
    """The children that have the label of this LLMDeployment."""

    async def listed(kind: Kind) -> list[Object]:
        labels = {LABEL_DEPLOYMENT: owner.name}
        if kind is CONFIG_MAP:  # not the trial state, which is large
            labels |= {LABEL_COMPONENT: SPLIT}
        return await cluster.list(kind, owner.namespace, labels=labels)

    found = dict(zip(LISTED_KINDS, await asyncio.gather(*map(listed, LISTED_KINDS)), strict=True))
    ours = [[obj for obj in objects if kind is POD or is_ours(obj, owner)] for kind, objects in found.items()]
    others = (obj for obj in found[CONTROLLER_REVISION] if not is_ours(obj, owner) and has_our_name(obj, owner))
    records, deployments, pods, services, budgets, splits = ours
    return OwnedObjects(records, deployments, pods, services, budgets, splits, tuple(others))


async def add_documents(cluster: Reader, owner: Owner, listed: OwnedObjects, backends: Iterable[str]) -> OwnedObjects:
    """The listed children, and the split documents in use that have lost their labels.

    First of all that is not listed: they name the revisions whose records are read by name.

    Args:
        cluster: the API server.
        owner: the LLMDeployment.
        listed: its children that have the label.
        backends: those that its route names.
    """
    named = {engine_of_split(owner.name, obj) for obj in listed.splits}
    without = {
        name for r in listed.read_records() if not r.resolved.reads_split for name in (r.revision, r.engine_revision)
    }
    missing = {*backends, *_running(listed)} - named - without
    return (await _with_splits(cluster, owner, listed, missing))[0]


def _running(listed: OwnedObjects) -> set[str]:
    """The engine revisions whose pods run."""
    return {engine_of_pod(pod) for pod in listed.pods if not pod["metadata"].get("deletionTimestamp")} - {""}


async def add_unlabelled(
    cluster: Reader, owner: Owner, listed: OwnedObjects, revisions: Iterable[str], backends: Iterable[str]
) -> OwnedObjects:
    """The listed children, and those in use that have lost their label.

    Args:
        cluster: the API server.
        owner: the LLMDeployment.
        listed: its children that have the label.
        revisions: those that get requests.
        backends: those that its route names.
    """
    running = _running(listed)
    records = await add_named(cluster, CONTROLLER_REVISION, owner, listed.records, revisions)
    deployments = await add_named(cluster, DEPLOYMENT, owner, listed.deployments, running)
    services = await add_named(cluster, SERVICE, owner, listed.services, backends)
    prefix = child_name(owner.name, "")
    deployed = {obj["metadata"]["name"].removeprefix(prefix) for obj in deployments}
    budgets = await add_named(cluster, POD_DISRUPTION_BUDGET, owner, listed.budgets, deployed)
    return replace(listed, records=records, deployments=deployments, services=services, budgets=budgets)


async def add_lost_records(
    reads: TolerantReads, owner: Owner, owned: OwnedObjects, documents: Mapping[str, SplitDocument]
) -> OwnedObjects:
    """The children, and the records of revisions that run without one: read by name, else rebuilt.

    What was not read is not lost: unless all records, Deployments and documents were read, nothing is rebuilt. A record
    that cannot be read is not lost either, and says that the others may be older than they look.

    Args:
        reads: of this reconcile.
        owner: the LLMDeployment.
        owned: its children.
        documents: the split documents by engine revision.
    """
    running = deployed(owner.name, owned.deployments)
    lost = lost_revisions(running, documents, owned.read_records())
    if not lost or not _NEEDED.isdisjoint(reads.failed):  # as a rule
        return owned
    owned = replace(owned, records=await add_named(reads, CONTROLLER_REVISION, owner, owned.records, lost))
    if owned.unreadable_records() or not _NEEDED.isdisjoint(reads.failed):
        return owned
    records = owned.read_records()
    lost = lost_revisions(running, documents, records)
    with_prompt = any(running[engine].revision != name for name, engine in lost.items())
    prompts = await reads.list(PROMPTVERSION, owner.namespace, labels={}) if with_prompt else []
    return replace(owned, rebuilt=rebuilt(lost, running, prompts, records))


async def add_splits(
    cluster: Reader, owner: Owner, owned: OwnedObjects, target: Record | None
) -> tuple[OwnedObjects, frozenset[str]]:
    """The children with the split documents that have lost their labels; and the names that others have taken."""
    records = [*owned.read_records(), *([target] if target else [])]
    prefix = child_name(owner.name, "")
    deployed = {obj["metadata"]["name"].removeprefix(prefix) for obj in owned.deployments}
    deployed |= {target.engine_revision} if target else set()
    engines = {r.engine_revision for r in records if r.resolved.reads_split and r.engine_revision in deployed}
    return await _with_splits(cluster, owner, owned, engines)


async def _with_splits(
    cluster: Reader, owner: Owner, owned: OwnedObjects, engines: Iterable[str]
) -> tuple[OwnedObjects, frozenset[str]]:
    missing = {split_name(owner.name, engine) for engine in engines} - {o["metadata"]["name"] for o in owned.splits}
    if not missing:  # as a rule
        return owned, frozenset()
    answers = await asyncio.gather(*(cluster.get(CONFIG_MAP, owner.namespace, name) for name in sorted(missing)))
    read = [obj for obj in answers if obj]
    found = [obj for obj in read if is_ours(obj, owner)]
    taken = frozenset(obj["metadata"]["name"] for obj in read if not is_ours(obj, owner))
    return replace(owned, splits=[*owned.splits, *found]), taken


async def add_named(
    cluster: Reader, kind: Kind, owner: Owner, found: list[Object], revisions: Iterable[str]
) -> list[Object]:
    """The objects found so far, and the children of these revisions that are missing among them, if they exist."""
    missing = {child_name(owner.name, revision) for revision in revisions} - {o["metadata"]["name"] for o in found}
    if not missing:  # as a rule
        return found
    read = await asyncio.gather(*(cluster.get(kind, owner.namespace, name) for name in sorted(missing)))
    return [*found, *(obj for obj in read if obj and is_ours(obj, owner))]
