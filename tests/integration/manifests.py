"""The smallest valid manifests, and how to change one field of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Manifest = dict[str, Any]

LLMDEPLOYMENT: Manifest = {
    "apiVersion": "serin.dev/v1alpha1",
    "kind": "LLMDeployment",
    "metadata": {"name": "triage", "namespace": "default"},
    "spec": {
        "model": {"name": "triage", "source": "pvc://weights/triage"},
        "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
    },
}

PROMPTVERSION: Manifest = {
    "apiVersion": "serin.dev/v1alpha1",
    "kind": "PromptVersion",
    "metadata": {"name": "triage-1.4.0", "namespace": "default"},
    "spec": {
        "prompt": "triage",
        "version": "1.4.0",
        "messages": [{"role": "system", "content": "Triage the ticket."}],
    },
}

PLURALS = {"LLMDeployment": "llmdeployments", "PromptVersion": "promptversions"}


def changed(manifest: Mapping[str, Any], path: str, value: Any) -> Manifest:
    """Return a copy with one field set and the maps above it made; list entries are numbers: `messages.0.role`."""
    result: Any = copy.deepcopy(dict(manifest))
    node = result
    *parents, last = path.split(".")
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return result  # type: ignore[no-any-return]


def collection(manifest: Mapping[str, Any]) -> str:
    """Return the API path for manifests of this kind."""
    return f"/apis/serin.dev/v1alpha1/namespaces/default/{PLURALS[manifest['kind']]}"
