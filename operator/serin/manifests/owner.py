"""Owner reference, labels and selector of the children of an LLMDeployment.

Used by all builders and routers. By the owner reference, the garbage collector deletes the children of a deleted
LLMDeployment. Selectors use exactly the two labels of `selector`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.names import API_VERSION, FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_ENGINE_REVISION

LABEL_COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Owner:
    """An existing LLMDeployment."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """An entry of `ownerReferences`."""
        return {
            "apiVersion": API_VERSION,
            "kind": "LLMDeployment",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """The metadata of a child."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": dict(labels),
            "ownerReferences": [self.reference()],
        }


def selector(owner_name: str, engine_revision: str) -> dict[str, str]:
    """The labels that select the pods of an engine revision; they do not contain the role (stable, canary), which
    changes."""
    return {LABEL_DEPLOYMENT: owner_name, LABEL_ENGINE_REVISION: engine_revision}


def common_labels(owner_name: str, component: str) -> dict[str, str]:
    """Labels of every child; watches select by the last one."""
    return {
        "app.kubernetes.io/name": "vllm",
        "app.kubernetes.io/instance": owner_name,
        LABEL_COMPONENT: component,
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        LABEL_DEPLOYMENT: owner_name,
    }
