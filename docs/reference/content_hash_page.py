"""Generates `content-hash.md`: what the content hash of a PromptVersion covers, with test vectors.

Called by `docs.reference.generate`. The vectors are for other implementations, such as a check in a CI pipeline.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import rfc8785

from docs.reference.texts import code, table
from serin.api.content_hash import DIGITS, NOT_HASHED, content_hash, hashed_content
from serin.api.nesting import MAX_LEVELS
from serin.api.parse import MAX_PROMPT_BYTES, MAX_PROMPT_ELEMENTS, parse_promptversion
from serin.api.promptversion import PromptVersionSpec

_SYSTEM = {"role": "system", "content": "Triage the ticket."}
_LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Finds a customer.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}
VECTORS: Mapping[str, Mapping[str, Any]] = {
    "smallest": {"messages": [_SYSTEM]},
    "every default spelt out": {
        "author": "Ana",
        "changeNote": "First version.",
        "labels": {"team": "support"},
        "messages": [_SYSTEM],
        "variables": [],
        "parameters": {"stop": [], "extra": {}},
        "tools": [],
        "structured": False,
        "strict": False,
        "clientSystem": "Merge",
        "enforce": False,
    },
    "fields of the first version": {
        "model": "triage",
        "messages": [{"role": "system", "content": "Triage for {{ team }}."}],
        "variables": [{"name": "team", "required": True, "description": "Who reads the ticket."}],
        "parameters": {"temperature": 0.0, "topP": 0.95, "maxTokens": 128, "stop": ["\n"], "seed": 7},
        "outputSchema": {"type": "object", "required": ["queue"]},
    },
    "history and variables": {
        "messages": [
            {"role": "developer", "content": "Answer {{ name }} in {{ language }}."},
            {"placeholder": "history"},
            {"role": "system", "content": "Be brief: {{ words }} words."},
        ],
        "variables": [
            {"name": "name", "maxLength": 64},
            {"name": "language", "enum": ["German", "English"], "default": "English"},
            {"name": "words", "type": "number", "default": "50"},
        ],
    },
    "tools": {
        "messages": [_SYSTEM],
        "tools": [_LOOK_UP],
        "toolChoice": "look_up",
        "parameters": {"extra": {"top_k": 20, "parallel_tool_calls": False, "logit_bias": {"50256": -100}}},
    },
    "structured output": {
        "messages": [_SYSTEM],
        "outputSchema": {"type": "object", "properties": {"größe": {"maximum": 1e21, "default": None}}},
        "structured": True,
        "outputName": "ticket",
        "strict": True,
        "clientSystem": "Reject",
        "enforce": True,
    },
}
"""Specs by what they show, without `prompt` and `version`, which are not hashed."""


def spec_of(vector: Mapping[str, Any]) -> PromptVersionSpec:
    """The parsed spec of a vector."""
    return parse_promptversion({"spec": {"prompt": "triage", "version": "1.0.0", **vector}})


def content_hash_page() -> list[str]:
    """The page of the content hash."""
    names = {name: field.alias or name for name, field in PromptVersionSpec.model_fields.items()}
    hashed = [code(names[name]) for name in names if name not in NOT_HASHED]
    others = [code(names[name]) for name in names if name in NOT_HASHED]
    lines = [
        "# Content hash of a PromptVersion",
        "",
        *wrap(
            f"`status.contentHash` is the identity of a prompt: the first {DIGITS} hex digits of the SHA-256 of the "
            "canonical JSON ([RFC 8785](https://www.rfc-editor.org/rfc/rfc8785)) of every field of `spec` that can "
            "change an answer. Two PromptVersions with the same hash are the same prompt, whatever their names and "
            "versions are.",
            125,
        ),
        "",
        *table(("fields", "are"), [(", ".join(hashed), "hashed"), (", ".join(others), "not hashed: for readers")]),
        "",
        *wrap(
            "Fields with their default value, and `parameters` and `parameters.extra` without a field in them, are "
            "left out. So a default that is written or that the API server fills in changes no hash, and neither does "
            "a new version of Serin with more fields. JSON Schemas are hashed as they are written. Numbers have no "
            "type: `1`, `1.0` and `1e0` are the same.",
            125,
        ),
        "",
        f"A spec has at most {MAX_PROMPT_BYTES:,} bytes as JSON without spaces, {MAX_LEVELS} levels, and",
        f"{MAX_PROMPT_ELEMENTS:,} brackets and commas.",
        "",
        "## Test vectors",
        "",
        "`spec`, without `prompt` and `version`; then the canonical JSON; then the hash.",
    ]
    for name, vector in VECTORS.items():
        spec = spec_of(vector)
        canonical = rfc8785.dumps(hashed_content(spec))
        if hashlib.sha256(canonical).hexdigest()[:DIGITS] != content_hash(spec):
            raise ValueError(f"The vector {name!r} has a canonical JSON of another hash.")
        written = json.dumps(vector, ensure_ascii=False)
        lines += ["", f"### {name[0].upper()}{name[1:]}", "", "```json", written, "```"]
        lines += ["", "```json", canonical.decode(), "```", "", f"Hash: `{content_hash(spec)}`"]
    return lines
