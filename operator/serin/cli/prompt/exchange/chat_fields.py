"""Sampling parameters, tools and response format as OpenAI's chat completions name them. Pure.

Langfuse's `config`, MLflow's `model_config`, and `options` or `config` of prompty and dotprompt are all made of these
names, some in camelCase.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from serin.api.prompt_settings import CHOICES, Extra
from serin.cli.prompt.exchange.form import Draft, Fields
from serin.kube_types import Object

NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "topP": ("top_p", "topP"),
    "maxTokens": ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens"),
    "stop": ("stop", "stop_sequences", "stopSequences"),
    "seed": ("seed",),
}
"""Names of each parameter in other formats, the one of chat completions first."""
_EXTRA_NAMES = {
    name: (name, re.sub(r"_(\w)", lambda found: found[1].upper(), name), *more)
    for name, more in {
        **dict.fromkeys(Extra.model_fields, ()),
        "parallel_tool_calls": ("allowMultipleToolCalls",),
    }.items()
}


def take_parameters(fields: Fields, draft: Draft) -> None:
    """Read the sampling parameters.

    Raises:
        InputError: one is given under two names.
    """
    parameters = {name: _one(fields, wires) for name, wires in NAMES.items()}
    if isinstance(parameters["stop"], str):
        parameters["stop"] = [parameters["stop"]]
    extra = {name: _one(fields, wires) for name, wires in _EXTRA_NAMES.items()}
    given = {name: value for name, value in parameters.items() if value not in (None, [])}
    if more := {name: value for name, value in extra.items() if value is not None}:
        given["extra"] = more
    draft.put("parameters", {**draft.spec.get("parameters", {}), **given})


def parameters_of(spec: Object, names: Mapping[str, str]) -> Object:
    """The sampling parameters under other names; those of chat completions where `names` has none."""
    parameters = dict(spec.get("parameters") or {})
    extra = parameters.pop("extra", None) or {}
    wires = {NAMES[name][0]: value for name, value in parameters.items()} | dict(extra)
    return {names.get(wire, wire): value for wire, value in wires.items()}


def take_tools(fields: Fields, draft: Draft) -> None:
    """Read `tools` and `tool_choice`.

    Raises:
        InputError: a tool is no function of chat completions.
    """
    tools = fields.take("tools", list)
    for number, tool in enumerate(tools or []):
        known = isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("function"), dict)
        if not known or set(tool) > {"type", "function"}:
            fields.refuse(
                f"tools[{number}]",
                "this is no tool of chat completions, {type: function, function: {...}}; write it so, or remove it.",
            )
    draft.put("tools", tools)
    choice = fields.take("tool_choice", str, dict)
    if isinstance(choice, dict):
        named = Fields(fields.file, fields.path("tool_choice"), choice)
        kind, function = named.take("type", str), named.below("function")
        choice = function.take("name", str)
        if kind != "function" or choice is None or choice in CHOICES:
            fields.refuse("tool_choice", "this names no function; correct it.")
        draft.left_out += [*named.rest(), *function.rest()]
    draft.put("toolChoice", choice)


def tools_of(spec: Object) -> Object:
    """`tools` and `tool_choice` of a chat completion."""
    choice = spec.get("toolChoice")
    if choice is not None and choice not in CHOICES:
        choice = {"type": "function", "function": {"name": choice}}
    found = {"tools": spec.get("tools"), "tool_choice": choice}
    return {name: value for name, value in found.items() if value}


def take_response_format(fields: Fields, draft: Draft) -> None:
    """Read `response_format`.

    Raises:
        InputError: it asks for more than a JSON Schema.
    """
    if not fields.has("response_format"):
        return
    form = fields.below("response_format")
    kind = form.take("type", str)
    if kind == "json_schema":
        schema = form.below("json_schema")
        put_schema(draft, schema.take("schema", dict), schema.take("name", str))
        draft.put("strict", schema.take("strict", bool) or None)
        draft.left_out += schema.rest()
        if "outputSchema" not in draft.spec:
            schema.refuse("schema", "the schema is missing; add it.")
    elif kind != "text":
        form.refuse("type", f"{kind!a} cannot be said in a PromptVersion; give a json_schema, or remove it.")
    draft.left_out += form.rest()


def put_schema(draft: Draft, schema: Object | None, name: str | None = None) -> None:
    """Set the output schema of answers that vLLM must make match it."""
    if schema is not None:
        draft.spec |= {"outputSchema": schema, "structured": True}
        # The default is the name of the prompt.
        draft.put("outputName", name if name != draft.family else None)


def response_format_of(spec: Object) -> Object:
    """`response_format` of a chat completion, where the answer must match the schema."""
    if not spec.get("structured"):
        return {}
    schema: dict[str, Any] = {"name": spec.get("outputName") or spec["prompt"], "schema": spec["outputSchema"]}
    if spec.get("strict"):
        schema["strict"] = True
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _one(fields: Fields, names: tuple[str, ...]) -> Any:
    given = [name for name in names if fields.has(name)]
    for name in names:
        fields.take(name)
    if len(given) > 1:
        fields.refuse(given[1], f"this is the same parameter as {given[0]}; remove one.")
    return fields.take(given[0]) if given else None
