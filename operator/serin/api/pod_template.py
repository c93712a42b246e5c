"""`spec.podTemplate`: an overlay of Kubernetes YAML; rules reject the fields that would break a rollout.

The schema preserves unknown fields, so that the pod fields of every Kubernetes version can be used; it declares only
the fields that a rule needs. `serin.manifests` merges the overlay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from serin.api.base import ApiModel, list_map
from serin.api.fields import LABEL_KEY, LABEL_VALUE, matches, quoted
from serin.api.names import CONTAINER, GROUP
from serin.api.rule import Rule

_KEEP = {"x-kubernetes-preserve-unknown-fields": True}
_TEXTS = {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 4096}}
_OWN_FIELDS = ("command", "args", "image", "resources")
_is_key = matches(LABEL_KEY)
_is_value = matches(LABEL_VALUE)


def _metadata_schema() -> dict[str, Any]:
    def texts(longest: int) -> dict[str, Any]:
        return {
            "type": "object",
            "maxProperties": 32,
            "additionalProperties": {"type": "string", "maxLength": longest},
        }

    labels = texts(63) | {"description": "Labels to add to the pods."}
    annotations = texts(4096) | {"description": "Annotations to add to the pods."}
    return {"type": "object", "properties": {"labels": labels, "annotations": annotations}}


def _spec_schema() -> dict[str, Any]:
    container = {
        "type": "object",
        **_KEEP,
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "description": f"Name of the container: `{CONTAINER}` is vLLM, any other name is a sidecar.",
            },
            "image": {"type": "string", "maxLength": 512, "description": "Image of a sidecar."},
            "command": _TEXTS | {"description": "Entrypoint of a sidecar."},
            "args": _TEXTS | {"description": "Arguments of a sidecar."},
            "resources": {"type": "object", **_KEEP, "description": "Resource requests and limits of a sidecar."},
            "env": {
                "type": "array",
                "maxItems": 256,
                "items": {
                    "type": "object",
                    **_KEEP,
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "maxLength": 512, "description": "Name of the variable."}
                    },
                },
                "description": "Environment variables of a container, merged by name.",
            },
        },
    }
    return {
        "type": "object",
        **_KEEP,
        "properties": {
            "restartPolicy": {"type": "string", "maxLength": 16, "description": "Only `Always` is allowed."},
            "terminationGracePeriodSeconds": {
                "type": "integer",
                "description": "Not allowed here; set `spec.rollout.drainTimeout`, from which Serin derives it.",
            },
            "containers": {
                "type": "array",
                "maxItems": 16,
                "items": container,
                "description": "Containers to change or add, merged by name.",
                **list_map("name"),
            },
        },
    }


def _are_string_maps(metadata: dict[str, Any]) -> dict[str, Any]:
    """The same check as in the schema; the rules below depend on it."""
    for name, texts in metadata.items():
        if name not in {"labels", "annotations"}:
            raise ValueError(f"Remove {name}; only labels and annotations are allowed.")
        if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in texts.values()):
            raise ValueError(f"Write {name} as a map from strings to strings.")
    return metadata


def _engines(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    containers = spec.get("containers")
    if not isinstance(containers, list):  # refused below; stored under an older schema, it may be anything
        return []
    return [each for each in containers if isinstance(each, Mapping) and each.get("name") == CONTAINER]


def _keys(metadata: Mapping[str, Any]) -> list[str]:
    return [key for part in ("labels", "annotations") for key in metadata.get(part, {})]


Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_are_string_maps),
    WithJsonSchema(_metadata_schema()),
    Rule(
        cel=f"(!has(self.labels) || !self.labels.exists(key, key.startsWith('{GROUP}/'))) && "
        f"(!has(self.annotations) || !self.annotations.exists(key, key.startsWith('{GROUP}/')))",
        message=f"Remove the labels and annotations that begin with {GROUP}/; they are reserved for Serin.",
        holds=lambda metadata: not any(key.startswith(f"{GROUP}/") for key in _keys(metadata)),
    ),
    Rule(
        cel=f"!has(self.labels) || self.labels.all(key, key.matches({quoted(LABEL_KEY)}) && "
        f"self.labels[key].matches({quoted(LABEL_VALUE)}))",
        message="Write labels in the form of Kubernetes: letters, digits, '-', '_' and '.', at most 63 characters.",
        holds=lambda metadata: all(_is_key(k) and _is_value(v) for k, v in metadata.get("labels", {}).items()),
    ),
]

PodSpec = Annotated[
    dict[str, Any],
    WithJsonSchema(_spec_schema()),
    Rule(
        cel="!has(self.restartPolicy) || self.restartPolicy == 'Always'",
        message="Remove restartPolicy; only Always is supported.",
        holds=lambda spec: spec.get("restartPolicy", "Always") == "Always",
    ),
    Rule(
        cel="!has(self.terminationGracePeriodSeconds)",
        message="Remove terminationGracePeriodSeconds and set rollout.drainTimeout; Serin derives it from there.",
        holds=lambda spec: "terminationGracePeriodSeconds" not in spec,
    ),
    Rule(
        cel=f"!has(self.containers) || !self.containers.exists(c, c.name == '{CONTAINER}' && "
        f"({' || '.join(f'has(c.{field})' for field in _OWN_FIELDS)}))",
        message=f"Remove command, args, image and resources from the container {CONTAINER}; "
        "use engine.args, engine.image and engine.resources, which are part of the revision.",
        holds=lambda spec: not any(field in engine for engine in _engines(spec) for field in _OWN_FIELDS),
    ),
]


class PodTemplate(ApiModel):
    """Overlay on the pod template that Serin renders."""

    metadata: Metadata | None = None
    """Labels and annotations to add to the pods."""
    spec: PodSpec | None = None
    """Fields of the pod spec to add or replace: maps are merged, lists are merged by their Kubernetes key, other values
    are replaced."""

    @property
    def engine_variables(self) -> frozenset[str]:
        """Names of the environment variables that the overlay sets in vLLM's container."""
        entries = [entry for engine in _engines(self.spec or {}) for entry in engine.get("env") or ()]
        return frozenset(str(entry.get("name")) for entry in entries if isinstance(entry, Mapping))
