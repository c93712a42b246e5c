"""Which objects belong to an LLMDeployment, which it may adopt, and the write that adopts one. Pure.

Children lose their owner when a backup is restored or an LLMDeployment is deleted and created again: references are
stripped, or name a uid that is gone. Serin adopts what it made itself, judged by name and content. An object of another
owner is never adopted. ADR 21 has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from serin.api.names import (
    EVIDENCE,
    FIELD_MANAGER,
    GROUP,
    LABEL_DEPLOYMENT,
    LABEL_ENGINE_REVISION,
    child_name,
)
from serin.manifests.observed import applied_at, engine_revision_of
from serin.manifests.owner import Owner
from serin.manifests.split_document import engine_of_split

_HASH = re.compile(r"[0-9a-f]{10}")
_Fields = dict[str, Any]
"""A part of `fieldsV1`: a tree of the fields that a manager owns."""


def is_owned(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the object names this LLMDeployment as an owner."""
    return any(ref.get("uid") == owner.uid for ref in _references(obj))


def is_orphan(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the object is a child of this LLMDeployment that has lost its owner."""
    if is_owned(obj, owner) or obj["metadata"].get("deletionTimestamp"):
        return False
    if any(ref.get("controller") and not _is_gone(ref, owner) for ref in _references(obj)):
        return False
    return _has_marks(obj, owner) and has_our_name(obj, owner)


def is_ours(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the object is a child of this LLMDeployment, or one that it adopts."""
    return is_owned(obj, owner) or is_orphan(obj, owner)


def _has_marks(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether the label, or the field manager of an apply, says that Serin made the object."""
    labels = obj["metadata"].get("labels") or {}
    return labels.get(LABEL_DEPLOYMENT) == owner.name or applied_at(obj) is not None


def controller_of(obj: Mapping[str, Any]) -> str | None:
    """Kind and name of the controller that an object names, for people; None if it names none."""
    return next((f"{ref.get('kind')} {ref.get('name')}" for ref in _references(obj) if ref.get("controller")), None)


def beside_controller(want: _Fields, found: Mapping[str, Any], owner: Owner) -> _Fields:
    """The write of a child, as its owner but not as its controller if somebody has given it another controller.

    An object has one controller: otherwise every write would be refused, also one that takes weight from a canary.
    """
    if not any(ref.get("controller") and ref.get("uid") != owner.uid for ref in _references(found)):
        return want
    reference = {name: value for name, value in owner.reference().items() if name != "controller"}
    return want | {"metadata": want["metadata"] | {"ownerReferences": [reference]}}


def adoption(obj: Mapping[str, Any], owner: Owner) -> _Fields:
    """The metadata with which an orphan is adopted: owners, and the managers of the fields that Serin may remove.

    A restored object has the fields of Serin under the name of the tool that restored it. Server-side apply removes a
    field only if nobody else manages it, so an ended trial or an old host name would stay forever.
    """
    meta = obj["metadata"]
    others = [dict(ref) for ref in _references(obj) if not _is_gone(ref, owner)]
    metadata: _Fields = {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    metadata["ownerReferences"] = [*others, owner.reference()]
    if managers := _taken_over(meta.get("managedFields") or (), obj["kind"], obj["apiVersion"]):
        metadata["managedFields"] = managers
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def _references(obj: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return obj["metadata"].get("ownerReferences") or ()


def _is_gone(ref: Mapping[str, Any], owner: Owner) -> bool:
    """Whether a reference names an LLMDeployment that existed before: names are unique, so another uid is gone."""
    group = str(ref.get("apiVersion", "")).partition("/")[0]
    same = (group, ref.get("kind"), ref.get("name")) == (GROUP, "LLMDeployment", owner.name)
    return same and ref.get("uid") != owner.uid


def has_our_name(obj: Mapping[str, Any], owner: Owner) -> bool:
    """Whether name and content are those of a child of this LLMDeployment; content that says so cannot be a chance."""
    name = str(obj["metadata"]["name"])
    spec = obj.get("spec") or {}
    match obj["kind"]:
        case "HTTPRoute":
            return name == owner.name
        case "ControllerRevision":
            data = obj.get("data")
            return isinstance(data, Mapping) and name == child_name(owner.name, str(data.get("revision")))
        case "Deployment" | "PodDisruptionBudget":
            chosen = (spec.get("selector") or {}).get("matchLabels") or {}
            return chosen.get(LABEL_DEPLOYMENT) == owner.name and engine_revision_of(owner.name, obj) is not None
        case "Service":
            chosen = spec.get("selector") or {}
            ending = name.removeprefix(child_name(owner.name, ""))
            named = name == child_name(owner.name, ending) and _HASH.fullmatch(ending) is not None
            return named and chosen.get(LABEL_DEPLOYMENT) == owner.name and LABEL_ENGINE_REVISION in chosen
        case "ConfigMap":
            engine = engine_of_split(owner.name, obj)
            is_split = engine is not None and _HASH.fullmatch(engine) is not None
            return is_split or name == child_name(owner.name, EVIDENCE)
        case _:
            return False


def _taken_over(managers: Iterable[Mapping[str, Any]], kind: str, api_version: str) -> list[_Fields]:
    """`managedFields` in which Serin alone manages its annotations, and of a route the spec; empty: as they are."""
    kept: list[_Fields] = []
    taken: _Fields = {}
    ours: _Fields | None = None
    for entry in managers:
        fields = entry.get("fieldsV1")
        if entry.get("subresource") or not isinstance(fields, Mapping):
            kept.append(dict(entry))
        elif entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            ours = dict(entry)
        else:
            mine, theirs = _parted(fields, kind)
            taken = _joined(taken, mine)
            kept.append(dict(entry) | {"fieldsV1": theirs})
    if not taken:
        return []
    new = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": api_version, "fieldsType": "FieldsV1"}
    ours = ours or new | {"fieldsV1": {}}
    return [ours | {"fieldsV1": _joined(ours["fieldsV1"], taken)}, *(e for e in kept if e.get("fieldsV1") != {})]


def _parted(fields: Mapping[str, Any], kind: str) -> tuple[_Fields, _Fields]:
    """The fields that Serin takes over, and the rest."""
    mine: _Fields = {}
    theirs: _Fields = dict(fields)
    if kind == "HTTPRoute" and "f:spec" in theirs:
        mine["f:spec"] = theirs.pop("f:spec")
    metadata = dict(theirs.get("f:metadata") or {})
    annotations = dict(metadata.get("f:annotations") or {})
    if of_serin := {name: annotations.pop(name) for name in list(annotations) if name.startswith(f"f:{GROUP}/")}:
        mine["f:metadata"] = {"f:annotations": of_serin}
        theirs["f:metadata"] = metadata | {"f:annotations": annotations}
    return mine, theirs


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> _Fields:
    """Both trees in one."""
    joined = dict(one)
    for name, below in other.items():
        joined[name] = _joined(joined[name], below) if name in joined else below
    return joined
