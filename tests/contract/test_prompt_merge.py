"""`serin prompt render` shows the body that a pod passes to vLLM: both meet the same vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.apply import apply
from model_server.serin_model_server.prompting.prompt import parse_prompts
from model_server.serin_model_server.prompting.refusal import Refusal
from model_server.serin_model_server.prompting.special import SpecialTokens

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "prompt_merge.json").read_text(encoding="utf-8"))
"""Also met by tests/unit/cli/test_render.py."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_pod_merges_as_the_vector_says(vector: dict[str, Any]) -> None:
    content = {"version": "1.4.0", "hash": "0" * 12} | vector["prompt"]
    content.pop("prompt", None)
    prompt = parse_prompts({"triage": content})
    assert prompt is not None
    body = json.dumps(vector["request"]).encode()
    if "refusal" in vector:
        with pytest.raises(Refusal) as refused:
            apply(paths.CHAT, body, prompt, SpecialTokens(()))
        assert {"code": refused.value.code, "param": refused.value.param} == vector["refusal"]
    else:
        assert json.loads(apply(paths.CHAT, body, prompt, SpecialTokens(()))) == vector["body"]
