"""The state of the evidence as a ConfigMap, there and back: one for each LLMDeployment, of its latest trial.

Written by the reconciler before anything that follows from it, and conditional: a deposed leader writes nothing. What
it holds is `serin.analysis.trial_state`; nobody else reads it, and without it a trial is begun anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from serin.analysis import trial_state
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
    """The ConfigMap that keeps a state."""
    text = json.dumps(trial_state.to_json(state), separators=(",", ":"), allow_nan=False)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name_of(owner.name), common_labels(owner.name, "evidence")),
        "data": {_KEY: text},
    }


def relabel_evidence(owner: Owner, obj: Mapping[str, Any]) -> dict[str, Any]:
    """The ConfigMap as it is, with the labels that it was made with."""
    metadata = owner.metadata(name_of(owner.name), common_labels(owner.name, "evidence"))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(obj.get("data") or {})}


def read_evidence(obj: Mapping[str, Any] | None) -> TrialState | None:
    """The state that is kept; None where there is none, or it cannot be read: then the trial is begun anew."""
    text = ((obj or {}).get("data") or {}).get(_KEY)
    try:
        data = load_json(text) if text else None
        json.dumps(data, allow_nan=False)  # what is no number could never be written again
        return trial_state.from_json(data) if isinstance(data, dict) else None
    except (ValueError, RecordError):
        return None
