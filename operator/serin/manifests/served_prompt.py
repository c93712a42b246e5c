"""The prompt of a revision as its split document carries it: from the recorded copy, without what only people read.

Called by `serin.routers.split` for pods that apply prompts; the middleware reads the result. The API server and the
parser checked the copy before it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serin.api.prompt_settings import CHOICES
from serin.rollout.record import Resolved

SERVED = (
    "messages",
    "variables",
    "parameters",
    "tools",
    "toolChoice",
    "outputSchema",
    "outputName",
    "strict",
    "structured",
    "clientSystem",
    "enforce",
)
"""The fields of a PromptVersion that change what the model gets. A pod refuses a prompt with any other field."""


def served_prompts(resolved: Resolved) -> Mapping[str, Any]:
    """The prompts of a revision by family; empty without a prompt.

    Everything is as it was written, but a tool that is chosen by its name, which has the form of a request.
    """
    content = resolved.prompt_content
    if content is None:
        return {}
    served = {name: content[name] for name in SERVED if content.get(name) is not None}
    if served.get("toolChoice") not in {None, *CHOICES}:
        served["toolChoice"] = {"type": "function", "function": {"name": served["toolChoice"]}}
    prompt = {"version": str(content.get("version")), "hash": str(resolved.prompt_hash)} | served
    return {str(content.get("prompt")): prompt}
