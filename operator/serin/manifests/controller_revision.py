"""Converts a record to a ControllerRevision and back.

`data` holds the resolved revision; the API server rejects changes of it. Annotations hold the outcome of its trials.
The reconciler reads all records at the start of every reconcile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serin.api.names import (
    ANNOTATION_HANDLED,
    ANNOTATION_PROMOTION,
    ANNOTATION_REJECTION,
    ANNOTATION_TRIAL,
    LABEL_ENGINE_REVISION,
    LABEL_REVISION,
    child_name,
)
from serin.api.nesting import is_deeper_than, load_json
from serin.errors import RecordError
from serin.manifests.owner import Owner, common_labels
from serin.rollout.reasons import Reason
from serin.rollout.record import Record, Rejection, Resolved
from serin.rollout.revision import HASH_SCHEMA
from serin.rollout.trial import Trial

_PROMOTION = re.compile(r"[0-9]{1,15}")
MAX_RECORD_LEVELS = 512
"""More than any Serin has written: until 0.1 a prompt of up to about 250 levels could be recorded."""


def render_record(owner: Owner, record: Record) -> dict[str, Any]:
    """The ControllerRevision of a record; annotations without a value are omitted."""
    resolved = record.resolved
    labels = (
        common_labels(owner.name, "record")
        | {LABEL_ENGINE_REVISION: resolved.engine_revision}
        | {LABEL_REVISION: resolved.revision}
    )
    metadata = owner.metadata(child_name(owner.name, resolved.revision), labels)
    if annotations := _annotations(record):
        metadata["annotations"] = annotations
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": record.number,
        "data": _data(resolved),
    }


def read_record(obj: Mapping[str, Any]) -> Record:
    """The record of a ControllerRevision.

    Raises:
        RecordError: Serin did not write the object, it is damaged, or a newer Serin wrote it.
    """
    metadata = obj.get("metadata") or {}
    name = metadata.get("name")
    annotations = metadata.get("annotations") or {}
    try:
        resolved = _resolved(obj["data"])
        rejection = annotations.get(ANNOTATION_REJECTION)
        trial = annotations.get(ANNOTATION_TRIAL)
        record = Record(
            resolved=resolved,
            number=int(obj["revision"]),
            promotion=_read_promotion(annotations.get(ANNOTATION_PROMOTION)),
            rejection=_read_rejection(rejection, metadata) if rejection else None,
            trial=_read_trial(trial) if trial else None,
            handled=_read_handled(annotations.get(ANNOTATION_HANDLED)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(
            f"ControllerRevision {name} cannot be read as a record of Serin ({error!r}); "
            "restore it from a backup, or delete it to remove the revision."
        ) from error
    if resolved.hash_schema > HASH_SCHEMA:
        raise RecordError(
            f"ControllerRevision {name} was written by a newer Serin (hash schema {resolved.hash_schema}, "
            f"this version supports {HASH_SCHEMA}); upgrade the operator."
        )
    return record


@dataclass(frozen=True)
class UnreadableRecord:
    """What is known of a record that cannot be read."""

    revision: str
    promotion: int
    """Number of its promotion; 0: never promoted, as far as that can be read."""
    why: str


def read_or_explain(obj: Mapping[str, Any]) -> Record | UnreadableRecord:
    """The record of a ControllerRevision, or what its metadata says if it cannot be read."""
    try:
        return read_record(obj)
    except RecordError as error:
        metadata = obj["metadata"]
        promotion = str((metadata.get("annotations") or {}).get(ANNOTATION_PROMOTION, ""))
        revision = str(metadata["name"]).rpartition("-")[2]  # a label may have been changed, a name cannot
        return UnreadableRecord(revision, int(promotion) if promotion.isdecimal() else 0, str(error))


def _data(resolved: Resolved) -> dict[str, Any]:
    data: dict[str, Any] = {
        "hashSchema": resolved.hash_schema,
        "revision": resolved.revision,
        "engineRevision": resolved.engine_revision,
        "model": {"name": resolved.model_name, "source": resolved.model_source},
        "image": resolved.image,
        "podTemplate": dict(resolved.pod_template),
    }
    if resolved.prompt_hash is not None:
        data["prompt"] = {"name": resolved.prompt_name, "hash": resolved.prompt_hash}
        if resolved.prompt_content is not None:
            data["prompt"]["content"] = dict(resolved.prompt_content)
    return data


def _resolved(data: Mapping[str, Any]) -> Resolved:
    if is_deeper_than(data, MAX_RECORD_LEVELS):
        raise ValueError(f"data is nested more than {MAX_RECORD_LEVELS} levels deep")
    prompt = data.get("prompt") or {}
    pod_template = data["podTemplate"]
    if not isinstance(pod_template, Mapping):
        raise TypeError("podTemplate is not a map")
    return Resolved(
        revision=str(data["revision"]),
        engine_revision=str(data["engineRevision"]),
        model_name=str(data["model"]["name"]),
        model_source=str(data["model"]["source"]),
        image=str(data["image"]),
        pod_template=pod_template,
        prompt_name=prompt.get("name"),
        prompt_hash=prompt.get("hash"),
        prompt_content=prompt.get("content"),
        hash_schema=int(data["hashSchema"]),
    )


def _annotations(record: Record) -> dict[str, str]:
    annotations: dict[str, str] = {}
    if record.promotion is not None:
        annotations[ANNOTATION_PROMOTION] = str(record.promotion)
    if record.rejection:
        rejection = record.rejection
        facts: dict[str, Any] = {
            "reason": rejection.reason,
            "message": rejection.message,
            "at": rejection.at.isoformat(),
        }
        facts |= {"log": rejection.log} if rejection.log else {}
        annotations[ANNOTATION_REJECTION] = json.dumps(facts, separators=(",", ":"))
    if record.trial:
        annotations[ANNOTATION_TRIAL] = record.trial.to_json()
    if record.handled:
        annotations[ANNOTATION_HANDLED] = json.dumps(record.handled, separators=(",", ":"))
    return annotations


def _read_promotion(text: str | None) -> int | None:
    """The number of the promotion; None if the annotation is damaged: then the route shows which is the stable."""
    return int(text) if text and _PROMOTION.fullmatch(text) else None


def _read_trial(text: str) -> Trial | None:
    """The running trial; None if the annotation is damaged: the canary then starts again at the first step."""
    try:
        return Trial.from_json(text)
    except RecordError:
        return None


def _read_rejection(text: str, metadata: Mapping[str, Any]) -> Rejection:
    """The rejection; a damaged annotation still counts as one."""
    try:
        facts = load_json(text)
        at = datetime.fromisoformat(facts["at"])
        return Rejection(str(facts["reason"]), str(facts["message"]), at, _read_lines(facts.get("log")))
    except (ValueError, KeyError, TypeError):
        at = datetime.fromisoformat(metadata["creationTimestamp"])
        return Rejection(
            reason=Reason.ROLLED_BACK, message=f"The reason of the rollback is not readable: {text[:200]}", at=at
        )


def _read_lines(log: object) -> tuple[str, ...]:
    return tuple(str(line) for line in log) if isinstance(log, list) else ()


def _read_handled(text: str | None) -> tuple[str, ...]:
    """The handled commands; empty if the annotation is damaged."""
    try:
        tokens = load_json(text) if text else []
    except ValueError:
        return ()
    return tuple(str(token) for token in tokens) if isinstance(tokens, list) else ()
