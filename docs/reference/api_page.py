"""Generates `api.md`: every field, default, limit and rule of both kinds, from the CRDs.

Called by `docs.reference.generate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from docs.reference.texts import code, docstrings, table
from serin.api import names
from serin.api.crd import CUSTOM_RESOURCES, CustomResource, render_crd
from serin.api.rule import VALIDATIONS

LIMITS = {
    "format": "{}",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} keys",
}
# Meanings of names that have no docstring in serin.api.names.
MEANINGS = {
    "LABEL_ENGINE_REVISION": "On pods and all children of one engine revision: the engine revision.",
    "LABEL_REVISION": "On Services and ControllerRevisions: the revision.",
}


def api_page() -> list[str]:
    """The lines of the page."""
    parts = [
        f"# API reference: {names.API_VERSION}",
        "",
        "`kubectl explain llmdep.spec --recursive` shows the same from your cluster. `kubectl apply` rejects a field",
        "that is not listed here. `[]` is an entry of a list, `.*` a value of a map.",
    ]
    for resource in CUSTOM_RESOURCES:
        parts += ["", *_section(resource)]
    rows = [(f"`{value}`", meaning) for value, meaning in _names()]
    return [*parts, "", "## Labels and annotations", "", *table(("name", "meaning"), rows)]


def _section(resource: CustomResource) -> list[str]:
    version = render_crd(resource)["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    spec, status = root["properties"]["spec"], root["properties"]["status"]
    rules = dict.fromkeys((f"`{path}`" if path else "the object", rule["message"]) for path, rule in _rules("", root))
    subresources = ", ".join(f"`{name}`" for name in version["subresources"])
    columns = ", ".join(column.name for column in resource.columns if column.always)
    wide = ", ".join(column.name for column in resource.columns if not column.always)
    return [
        f"## {resource.kind}",
        "",
        f"{resource.description} Short name `{resource.short}`; subresources {subresources}.",
        f"Columns of `kubectl get`: {columns}; with `-o wide` also {wide}.",
        "",
        f"### {resource.kind}: spec",
        "",
        *table(("path", "type", "default", "limits", "description"), _fields("spec", spec)),
        "",
        f"### {resource.kind}: rules",
        "",
        "The API server rejects a manifest that breaks one of these rules, with this message.",
        "",
        *table(("path", "message"), rules),
        "",
        f"### {resource.kind}: status",
        "",
        "Written by Serin. Serin decides nothing from it.",
        "",
        *table(("path", "type", "description"), (row[:2] + row[4:] for row in _fields("status", status))),
    ]


def _fields(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """One row per field below a node, parents before children."""
    required = set(node.get("required", ()))
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        default = "**required**" if name in required else code(child.get("default"))
        yield f"`{here}`", _type(child), default, _limits(child), child.get("description", "")
        for suffix, below in _below(child):
            yield from _fields(here + suffix, below)


def _rules(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for rule in node.get(VALIDATIONS, ()):
        yield path, rule
    for name, child in node.get("properties", {}).items():
        yield from _rules(f"{path}.{name}".lstrip("."), child)
    for suffix, below in _below(node):
        if suffix:
            yield from _rules(path + suffix, below)


def _below(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", node
    if "items" in node:
        yield "[]", node["items"]
    if "additionalProperties" in node:
        yield ".*", node["additionalProperties"]


def _type(node: Mapping[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return "object, passed through"
    return str(node.get("type", "any"))


def _limits(node: Mapping[str, Any]) -> str:
    limits = [text.format(node[key]) for key, text in LIMITS.items() if key in node]
    if node.get("minLength") == 1:
        limits.append("not empty")
    if "enum" in node:
        limits.append("one of " + ", ".join(f"`{value}`" for value in node["enum"]))
    if "minimum" in node:
        limits.append(f"{'above' if node.get('exclusiveMinimum') else 'at least'} {node['minimum']}")
    if "maximum" in node:
        limits.append(f"{'below' if node.get('exclusiveMaximum') else 'at most'} {node['maximum']}")
    return "; ".join(limits)


def _names() -> Iterator[tuple[str, str]]:
    """Labels and annotations of serin.dev, with their meanings."""
    meanings = docstrings(inspect.getsource(names))
    for name, value in vars(names).items():
        if name.startswith(("LABEL_", "ANNOTATION_")):
            meaning = meanings[name] if name in meanings else MEANINGS[name]
            yield value, meaning.replace("``", "`")
