"""Rebuilds the record of a revision from its Deployment, if its ControllerRevision was deleted. Pure.

A revision is a hash, so what is rebuilt is checked: the Deployment names the engine revision, and the split document
names the revision, which is that of the engine alone or with a PromptVersion that still exists. The outcome of its
trials is lost. `serin.rollout.roles` says which rebuilt revision is the stable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from serin.api.content_hash import content_hash
from serin.api.names import CONTAINER
from serin.api.parse import parse_promptversion
from serin.errors import SpecError
from serin.manifests.observed import engine_revision_of
from serin.manifests.split_document import SplitDocument
from serin.rollout.record import Record, Resolved
from serin.rollout.revision import WITH_CONTRACT, WRITTEN, revision

_SERVED_NAME = "--served-model-name="


def deployed(owner_name: str, deployments: Iterable[Mapping[str, Any]]) -> dict[str, Resolved]:
    """What the Deployments run, by engine revision, oldest first; `revision` is that without a prompt."""
    made = ((engine_revision_of(owner_name, obj), obj) for obj in deployments)
    kept = ((engine, obj) for engine, obj in made if engine and not obj["metadata"].get("deletionTimestamp"))
    by_age = sorted(kept, key=lambda item: (item[1]["metadata"].get("creationTimestamp", ""), item[0]))
    return {engine: _resolved(engine, obj["spec"]["template"]) for engine, obj in by_age}


def lost_revisions(
    running: Mapping[str, Resolved], documents: Mapping[str, SplitDocument], records: Iterable[Record]
) -> dict[str, str]:
    """Revisions that run without a record, with their engine revisions; of each engine the one that served first.

    Args:
        running: by engine revision, what its Deployment runs.
        documents: the split documents by engine revision.
        records: those that exist.
    """
    existing = tuple(records)
    known = {record.revision: record.engine_revision for record in existing}
    lost: dict[str, str] = {}
    for engine, resolved in running.items():
        if engine in documents:
            named = [name for name, _ in documents[engine].shares]
        elif resolved.serves_prompts:  # without the document, only a canary says whose prompt the pods apply
            named = [r.trial.against for r in existing if r.engine_revision == engine and r.trial and not r.rejection]
        else:
            named = [] if engine in known.values() else [resolved.revision]
        lost |= {name: engine for name in named if name and name not in known}
    return lost


def rebuilt(
    lost: Mapping[str, str],
    running: Mapping[str, Resolved],
    prompts: Iterable[Mapping[str, Any]],
    records: Iterable[Record],
) -> tuple[Record, ...]:
    """The records of lost revisions whose content is known, not stored yet, numbered after the others.

    Args:
        lost: of `lost_revisions`.
        running: by engine revision, what its Deployment runs.
        prompts: PromptVersions that may be theirs.
        records: those that exist.
    """
    existing = tuple(records)
    recorded = {record.engine_revision: record.resolved for record in reversed(existing)}
    hashes = _by_hash(prompts)
    found: list[Record] = []
    for name, engine in lost.items():
        resolved = _with_prompt(recorded.get(engine, running[engine]), name, hashes)
        if resolved:
            number = max((r.number for r in (*existing, *found)), default=0) + 1
            found.append(Record(resolved=resolved, number=number, recorded=False))
    return tuple(found)


def _resolved(engine: str, template: Mapping[str, Any]) -> Resolved:
    metadata = {name: value for name, value in (template.get("metadata") or {}).items() if value is not None}
    pod_template = {**template, "metadata": metadata}
    containers = template["spec"].get("containers") or ()
    container: Mapping[str, Any] = next((c for c in containers if c.get("name") == CONTAINER), {})
    args = [str(arg) for arg in container.get("args") or ()]
    named = (arg.removeprefix(_SERVED_NAME) for arg in args if arg.startswith(_SERVED_NAME))
    resolved = Resolved(
        revision=revision(engine, None),
        engine_revision=engine,
        model_name=next(named, ""),
        model_source=args[0] if args else "",
        image=str(container.get("image", "")),
        pod_template=pod_template,
        hash_schema=WRITTEN,
    )
    return _with_schema(resolved)


def _with_schema(resolved: Resolved) -> Resolved:
    schema = WITH_CONTRACT if resolved.serves_prompts else WRITTEN
    return Resolved(**vars(resolved) | {"hash_schema": schema})


def _by_hash(prompts: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    hashes: dict[str, Mapping[str, Any]] = {}
    for prompt in prompts:
        try:
            hashes[content_hash(parse_promptversion(prompt))] = prompt
        except SpecError:
            continue
    return hashes


def _with_prompt(resolved: Resolved, name: str, prompts: Mapping[str, Mapping[str, Any]]) -> Resolved | None:
    """The resolved revision of this name; None if its prompt is not among these."""
    engine, fields = resolved.engine_revision, vars(resolved) | {"revision": name}
    if revision(engine, None) == name:
        return Resolved(**fields | {"prompt_name": None, "prompt_hash": None, "prompt_content": None})
    for digest, prompt in prompts.items():
        if revision(engine, digest) == name:
            content = {"prompt_hash": digest, "prompt_content": prompt["spec"]}
            return Resolved(**fields | {"prompt_name": prompt["metadata"]["name"]} | content)
    return None
