"""The LLMDeployment as the owner of its children: reference and labels.

Used by every builder here and by the routers. The reference makes the garbage collector remove what an LLMDeployment
leaves behind; the labels make its children findable. No selector is made from more than the two labels of `selector`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.names import API_VERSION, FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_ENGINE_REVISION


@dataclass(frozen=True)
class Owner:
    """An LLMDeployment that exists."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """Entry of `ownerReferences`."""
        return {
            "apiVersion": API_VERSION,
            "kind": "LLMDeployment",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Metadata of a child."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": dict(labels),
            "ownerReferences": [self.reference()],
        }


def selector(owner_name: str, engine_revision: str) -> dict[str, str]:
    """The labels that choose an engine revision's pods. A role that changes (stable, canary) is never among them."""
    return {LABEL_DEPLOYMENT: owner_name, LABEL_ENGINE_REVISION: engine_revision}


def common_labels(owner_name: str, component: str) -> dict[str, str]:
    """What every child carries, so that people and watches find it."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": owner_name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        LABEL_DEPLOYMENT: owner_name,
    }
