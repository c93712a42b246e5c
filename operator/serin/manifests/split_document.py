"""The split document: what the pods of an engine revision must know to name the revision and epoch of a request.

Rendered by the planner as the ConfigMap `<name>-<engine revision>-split`, which the pods mount as a directory. The
middleware reads it. `serin.routers.split` decides what is in it; the reconciler reads it back. ADR 17 has the reasons.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from serin.api.names import (
    FULL_WEIGHT,
    LABEL_ENGINE_REVISION,
    PROMPTS_VARIABLE,
    SPLIT,
    SPLIT_DIRECTORY,
    SPLIT_KEY,
    SPLIT_VARIABLE,
    child_name,
)
from serin.api.nesting import load_json
from serin.errors import Invalid, RecordError
from serin.manifests.owner import Owner, common_labels

SCHEMA = 1
MAX_BYTES = 900 * 1024
"""The API server refuses a ConfigMap above 1 MiB."""
MAX_LEVELS = 72
"""A prompt has at most 64 and stands at the fifth."""
VOLUME = "serin-split"
_DIGEST_DIGITS = 12
_TOKEN_DIGITS = 16
_MAX_SEQUENCE = 2**53
_MOUNT = {"name": VOLUME, "mountPath": SPLIT_DIRECTORY, "readOnly": True}
_ENTRIES = (
    {"name": SPLIT_VARIABLE, "value": f"{SPLIT_DIRECTORY}/{SPLIT_KEY}"},
    {"name": PROMPTS_VARIABLE, "value": "1"},
)


@dataclass(frozen=True)
class SplitDocument:
    """What the pods of one engine revision get."""

    sequence: int
    """Number of the split that changed this document last."""
    shares: tuple[tuple[str, int], ...]
    """One revision, or two that share the engine, each with its weight; the weights sum to 10,000."""
    salt: str
    """Part of the hash by which a pod chooses a revision: the second revision, or the only one."""
    token: str
    """The epoch header of a request counts only if it carries this."""
    epoch: int | None = None
    """The epoch that the pods give to requests, because they split; None: the gateway splits and sets a header."""
    reveal: bool = False
    """Whether answers name their revision in a header."""
    measure: Mapping[str, Any] | None = None
    """What the pods count by load for the trial; None: nothing."""
    prompts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By revision, the prompts that its requests get, by family; a revision without a prompt is absent."""
    key: Mapping[str, Any] | None = None
    """What requests with the same revision have in common, `{"header": NAME}` or `{"conversation": {}}`; None: each
    request gets one at random."""
    access_log: bool = False
    """Whether the pods log each request."""
    checks: tuple[Mapping[str, Any], ...] = ()
    """The checks that the pods make of each answer."""

    @property
    def digest(self) -> str:
        """The 12 hex digits that name this document in annotations and series."""
        return self._sha256()[:_DIGEST_DIGITS]

    def to_json(self) -> str:
        """Canonical JSON with its hash: sorted keys, no spaces, UTF-8."""
        return _canonical(self._content() | {"sha256": self._sha256()})

    def same_except_sequence(self, other: SplitDocument) -> bool:
        """Whether the pods would do the same with the other document."""
        return replace(self, sequence=0) == replace(other, sequence=0)

    def _sha256(self) -> str:
        return hashlib.sha256(_canonical(self._content()).encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "sequence": self.sequence,
            "epoch": self.epoch,
            "salt": self.salt,
            "token": self.token,
            "revisions": [self._revision(revision, weight) for revision, weight in self.shares],
            "reveal": self.reveal,
        }
        optional = {
            "measure": self.measure,
            "key": self.key,
            "accessLog": self.access_log or None,
            "checks": [dict(check) for check in self.checks] or None,
        }
        return content | {name: value for name, value in optional.items() if value is not None}

    def _revision(self, revision: str, weight: int) -> dict[str, Any]:
        prompts = self.prompts.get(revision)
        return {"revision": revision, "weight": weight} | ({"prompts": dict(prompts)} if prompts else {})


# A reconcile reads each of its documents several times; one may have 900 KiB.
@lru_cache(maxsize=8)
def parse_document(text: str) -> SplitDocument:
    """The document in the ConfigMap.

    Raises:
        RecordError: it is not one that this version writes, or its hash is wrong.
    """
    try:
        data = load_json(text, MAX_LEVELS)
        rest = {key: value for key, value in data.items() if key != "sha256"}
        if data["sha256"] != hashlib.sha256(_canonical(rest).encode()).hexdigest():
            raise ValueError("the hash does not match")  # noqa: TRY301 - all defects have one message
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']} is unknown")  # noqa: TRY301
        document = SplitDocument(
            sequence=_whole(data["sequence"], _MAX_SEQUENCE),
            epoch=None if data["epoch"] is None else _whole(data["epoch"], 31),
            salt=str(data["salt"]),
            token=str(data["token"]),
            shares=tuple((str(r["revision"]), _whole(r["weight"], FULL_WEIGHT)) for r in data["revisions"]),
            reveal=data["reveal"] is True,
            measure=data.get("measure"),
            key=data.get("key"),
            access_log=data.get("accessLog") is True,
            prompts={str(r["revision"]): _object(r["prompts"]) for r in data["revisions"] if r.get("prompts")},
            checks=tuple(dict(check) for check in data.get("checks", ())),
        )
        if sum(weight for _, weight in document.shares) != FULL_WEIGHT or len(dict(document.shares)) > 2:
            raise ValueError("the weights are not a split")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"The split document cannot be read ({error}); Serin writes it again.") from error
    return document


def token_of(owner: Owner) -> str:
    """The token of an LLMDeployment: 16 hex digits of its uid, which is random and outlives every status."""
    return hashlib.sha256(f"serin-epoch-token:{owner.uid}".encode()).hexdigest()[:_TOKEN_DIGITS]


# The ConfigMap


def split_name(owner_name: str, engine_revision: str) -> str:
    """Name of the ConfigMap of an engine revision."""
    return f"{child_name(owner_name, engine_revision)}-{SPLIT}"


def render_split(owner: Owner, engine_revision: str, document: SplitDocument) -> dict[str, Any]:
    """The ConfigMap of a document."""
    labels = common_labels(owner.name, SPLIT) | {LABEL_ENGINE_REVISION: engine_revision}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(split_name(owner.name, engine_revision), labels),
        "data": {SPLIT_KEY: document.to_json()},
    }


def engine_of_split(owner_name: str, obj: Mapping[str, Any]) -> str | None:
    """The engine revision that a ConfigMap is for, by its name; None if it holds no split document."""
    prefix, suffix, name = child_name(owner_name, ""), f"-{SPLIT}", str(obj["metadata"]["name"])
    is_split = obj.get("kind") == "ConfigMap" and name.startswith(prefix) and name.endswith(suffix)
    return (name[len(prefix) : -len(suffix)] or None) if is_split else None


def read_split(obj: Mapping[str, Any]) -> SplitDocument | None:
    """The document of a ConfigMap; None if it cannot be read, and then it is written again."""
    try:
        return parse_document(str((obj.get("data") or {}).get(SPLIT_KEY, "")))
    except RecordError:
        return None


def refuse_if_too_large(obj: Mapping[str, Any]) -> None:
    """Check the size of a ConfigMap before it is sent.

    Raises:
        Invalid: it holds a split document above 900 KiB.
    """
    text = (obj.get("data") or {}).get(SPLIT_KEY) if obj.get("kind") == "ConfigMap" else None
    if text and (size := len(text.encode())) > MAX_BYTES:
        detail = f"the split document has {size // 1024} KiB, and at most {MAX_BYTES // 1024} KiB are allowed"
        raise Invalid(
            f"ConfigMap {obj['metadata']['name']} was not written: {detail}; shorten the prompt or measure less.",
            detail,
        )


# The pods


def mount_split(pod: dict[str, Any], engine: dict[str, Any], owner_name: str, engine_revision: str) -> None:
    """Make the pods of an engine revision read the document, apply its prompts, and be Ready only with it.

    As a directory, because the kubelet does not update a file that is mounted by `subPath`; not optional, because a pod
    without its document cannot name a request's revision.
    """
    engine["env"].extend(map(dict, _ENTRIES))
    engine["volumeMounts"].append(dict(_MOUNT))
    pod["volumes"].append(_volume(owner_name, engine_revision))
    # Startup and liveness do not ask for the document: a damaged one must not restart the stable's pods.
    engine["readinessProbe"]["httpGet"] = engine["readinessProbe"]["httpGet"] | {"path": "/health?split"}


def altered_mount(
    pod: Mapping[str, Any], engine: Mapping[str, Any], owner_name: str, engine_revision: str
) -> str | None:
    """What an overlay has changed of `mount_split` so that the pods would not get the document; None if nothing."""
    variables = engine.get("env") or ()
    mounts = [
        mount
        for mount in engine.get("volumeMounts") or ()
        if str(mount.get("mountPath", "")).rstrip("/") == SPLIT_DIRECTORY or mount.get("name") == VOLUME
    ]
    volumes = [volume for volume in pod.get("volumes") or () if volume.get("name") == VOLUME]
    for wanted in _ENTRIES:
        if [entry for entry in variables if entry.get("name") == wanted["name"]] != [wanted]:
            return f"the variable {wanted['name']}"
    if mounts != [_MOUNT]:
        return f"the mount at {SPLIT_DIRECTORY}"
    return None if volumes == [_volume(owner_name, engine_revision)] else f"the volume {VOLUME}"


def _volume(owner_name: str, engine_revision: str) -> dict[str, Any]:
    return {"name": VOLUME, "configMap": {"name": split_name(owner_name, engine_revision)}}


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.80} is not an object")
    return value


def _whole(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a whole number from 0 to {most}")
    return value
