"""PromptVersions for the light engine, which applies no prompt but lets one spoil a share of its revision's answers.

Callers: the end-to-end tests and `bench`. Every status code stays 200: only a check sees a bad prompt. Not here: the
LLMDeployment that uses them (story).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from examples.demo.cluster import Object
from examples.light.story import METRICS
from examples.light.traffic import KEYS

FAMILY = "triage"
SCHEMA = {
    "type": "object",
    "required": sorted(KEYS),
    "properties": {key: {"type": "string"} for key in sorted(KEYS)},
    "additionalProperties": False,
}
CHECKED: Sequence[Mapping[str, Any]] = (
    *METRICS,
    {"name": "schema", "check": {"kind": "Schema"}, "tolerance": {"absolute": 0.02}},
)
"""Errors as in other stories, and the share of answers that do not satisfy the schema."""


def name_of(version: str) -> str:
    """Name of the PromptVersion of a version."""
    return f"{FAMILY}-{version}"


def prompt_version(version: str, text: str = "", *, wrong: float = 0.0) -> Object:
    """Return a PromptVersion.

    Args:
        version: such as 1.4.0.
        text: what makes its content differ from that of others; empty: the version.
        wrong: share of the answers that get wrong keys.
    """
    content = f"Route the ticket to a queue. Answer as JSON. {text or version}"
    if wrong:
        content += f" check-fail-rate={wrong:g}"
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "PromptVersion",
        "metadata": {"name": name_of(version)},
        "spec": {
            "prompt": FAMILY,
            "version": version,
            "messages": [{"role": "system", "content": content}],
            "outputSchema": SCHEMA,
        },
    }
