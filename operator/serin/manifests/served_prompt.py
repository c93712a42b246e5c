"""The prompt of a revision as its split document carries it: from the recorded copy, without what only people read.

Called by `serin.routers.split` for pods that apply prompts; the middleware reads the result. The API server and the
parser checked the copy before it was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    """The prompts of a revision by family, as written; empty without a prompt."""
    content = resolved.prompt_content
    if content is None:
        return {}
    served = {name: content[name] for name in SERVED if content.get(name) is not None}
    prompt = {"version": str(content.get("version")), "hash": str(resolved.prompt_hash)} | served
    return {str(content.get("prompt")): prompt}
