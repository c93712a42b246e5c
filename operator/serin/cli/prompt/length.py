"""Does a prompt fit the model's context: counted by a running model, or estimated from its bytes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.names import API_VERSION
from serin.cli.prompt.findings import Finding, error, warning
from serin.cli.prompt.registry import USER_KIND
from serin.cli.prompt.render import render
from serin.kube_types import Object

BYTES_PER_TOKEN = 4
"""Of English text, about; tokenizers that fall back to bytes never make more tokens than there are bytes."""
_ARGUMENT = "max-model-len"


@dataclass(frozen=True)
class Count:
    """Tokens of a prompt with empty variables, as a model counts them, and the most that the model accepts."""

    tokens: int
    max_model_len: int | None


def shortest_request(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the shortest request: every required variable has one character or its shortest value."""
    values = {
        variable["name"]: _shortest(variable) for variable in spec.get("variables") or () if variable.get("required")
    }
    return render(spec, {"messages": [], "prompt_variables": values})


def lint_length(spec: Mapping[str, Any], count: Count | None, limit: int | None) -> Iterator[Finding]:
    """Findings about the length.

    Args:
        spec: the spec of a valid PromptVersion.
        count: what a running model counts; None: unknown.
        limit: the model's --max-model-len; None: that of `count`.
    """
    limit = limit or (count.max_model_len if count else None)
    if limit is None:
        return
    answer = (spec.get("parameters") or {}).get("maxTokens") or 1
    if count is not None:
        yield from _counted(count.tokens, answer, limit)
        return
    size = len(json.dumps(shortest_request(spec).get("messages"), ensure_ascii=False).encode("utf-8", "replace"))
    estimate = size // BYTES_PER_TOKEN
    if estimate + answer > limit:
        yield warning(
            "spec.messages",
            f"The prompt has {size:,} bytes, about {estimate:,} tokens; with an answer of {answer:,} that is more than "
            f"the {limit:,} tokens of the model (max-model-len). Shorten it, or count exactly with --url.",
        )


def known_limits(manifests: list[Object]) -> dict[str, int]:
    """The smallest max-model-len of the LLMDeployments that use a prompt, by the name of the PromptVersion."""
    found: dict[str, int] = {}
    for manifest in manifests:
        spec = manifest.get("spec")
        if manifest.get("apiVersion") != API_VERSION or manifest.get("kind") != USER_KIND or not isinstance(spec, dict):
            continue
        prompt, engine = spec.get("prompt"), spec.get("engine")
        name = prompt.get("name") if isinstance(prompt, dict) else None
        limit = _limit(engine.get("args") if isinstance(engine, dict) else None)
        if isinstance(name, str) and limit is not None:
            found[name] = min(limit, found.get(name, limit))
    return found


def _counted(tokens: int, answer: int, limit: int) -> Iterator[Finding]:
    if tokens >= limit:
        yield error(
            "spec.messages",
            f"The prompt has {tokens:,} tokens without the client's messages, and the model accepts {limit:,} in all; "
            "shorten it.",
        )
    elif tokens + answer > limit:
        yield warning(
            "spec.parameters.maxTokens",
            f"The prompt has {tokens:,} tokens, so {limit - tokens:,} of the model's {limit:,} are left, fewer than "
            f"maxTokens ({answer:,}); shorten the prompt, or lower maxTokens.",
        )


def _limit(arguments: object) -> int | None:
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        if str(name).replace("_", "-") == _ARGUMENT and str(value).isdecimal():
            return int(value)
    return None


def _shortest(variable: Mapping[str, Any]) -> object:
    if variable.get("enum"):
        text = min(variable["enum"], key=len)
    else:
        text = {"number": "0", "boolean": "true"}.get(str(variable.get("type")).lower(), "x")
    return json.loads(text) if str(variable.get("type") or "string").lower() != "string" else text
