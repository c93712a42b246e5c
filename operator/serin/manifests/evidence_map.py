"""Converts the trial state to a ConfigMap and back; each LLMDeployment has one, for its latest trial.

The reconciler writes it before all other objects of a reconcile. The write is conditional, so a former leader cannot
overwrite it. `serin.analysis.stored_state` defines the content. Without it, the trial starts again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import TrialState
from serin.api.names import EVIDENCE, child_name
from serin.api.nesting import load_json
from serin.errors import RecordError
from serin.manifests.owner import Owner, common_labels

_KEY = "state.json"


def name_of(owner_name: str) -> str:
    """Name of the ConfigMap."""
    return child_name(owner_name, EVIDENCE)


def render_evidence(owner: Owner, state: TrialState) -> dict[str, Any]:
    """The ConfigMap of a trial state."""
    text = json.dumps(to_json(state), separators=(",", ":"), allow_nan=False)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name_of(owner.name), common_labels(owner.name, "evidence")),
        "data": {_KEY: text},
    }


def relabel_evidence(owner: Owner, obj: Mapping[str, Any]) -> dict[str, Any]:
    """The ConfigMap with its content and the labels that Serin gives it."""
    metadata = owner.metadata(name_of(owner.name), common_labels(owner.name, "evidence"))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(obj.get("data") or {})}


def read_evidence(obj: Mapping[str, Any] | None) -> TrialState | None:
    """The trial state in a ConfigMap; None if there is none or it cannot be read, and then the trial starts again."""
    text = ((obj or {}).get("data") or {}).get(_KEY)
    try:
        data = load_json(text) if text else None
        json.dumps(data, allow_nan=False)  # NaN or infinity could not be written again
        return from_json(data) if isinstance(data, dict) else None
    except (ValueError, RecordError):
        return None
