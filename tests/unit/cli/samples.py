"""Manifests of prompts for the tests of `serin prompt`."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"queue": {"type": "string"}}, "required": ["queue"]}


def make_prompt(version: str = "1.4.0", *, name: str | None = None, family: str = "triage", **spec: Any) -> Manifest:
    """A PromptVersion; its name is made from family and version."""
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "PromptVersion",
        "metadata": {"name": name or f"{family}-{version.lower().replace('+', '-')}"},
        "spec": {
            "prompt": family,
            "version": version,
            "messages": [{"role": "system", "content": "Triage the ticket."}],
            **spec,
        },
    }


def make_user(name: str, prompt: str, **engine_args: Any) -> Manifest:
    """As much of an LLMDeployment as the commands read."""
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"prompt": {"name": prompt}, "engine": {"args": engine_args}},
    }


V13 = make_prompt(
    "1.3.0",
    model="qwen3",
    author="ana@example.com",
    description="Routes a ticket to a queue.",
    messages=[
        {"role": "system", "content": "You route support tickets.\nAnswer with the name of one queue."},
        {"role": "user", "content": "Ticket: {{ ticket }}"},
    ],
    variables=[{"name": "ticket", "required": True, "description": "Text of the ticket"}],
    parameters={"temperature": 0.2, "maxTokens": 16},
)
V14 = make_prompt(
    "1.4.0",
    model="qwen3",
    author="ana@example.com",
    description="Routes a ticket to a queue.",
    messages=[
        {"role": "system", "content": 'You route support tickets.\nAnswer as JSON: {"queue": "billing"}'},
        {"role": "user", "content": "Customer: {{ customer }}\nTicket: {{ ticket }}"},
    ],
    variables=[
        {"name": "ticket", "required": True, "description": "Text of the ticket"},
        {"name": "customer", "required": True},
    ],
    parameters={"temperature": 0.2, "maxTokens": 64},
    outputSchema=SCHEMA,
)
