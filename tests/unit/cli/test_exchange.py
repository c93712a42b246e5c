"""Files of other tools: what they become, what is refused, what is reported as left out, and that hostile ones end."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serin.cli.prompt.exchange.convert import FORMATS, Wanted, export_prompt, import_prompt
from serin.cli.prompt.exchange.form import File
from serin.cli.prompt.files import read_bytes, text_of
from serin.cli.prompt.registry import stored
from serin.errors import InputError
from tests.unit.cli.samples import SCHEMA, make_prompt

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
LANGFUSE = {
    "id": "cm1",
    "createdAt": "2026-10-02T09:12:00.000Z",
    "projectId": "p1",
    "createdBy": "u1",
    "type": "chat",
    "name": "triage",
    "version": 7,
    "prompt": [
        {"role": "system", "content": "You route tickets of {{customer}}."},
        {"type": "placeholder", "name": "history"},
    ],
    "config": {
        "model": "qwen3",
        "temperature": 0.2,
        "max_tokens": 64,
        "stop": "END",
        "top_k": 20,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "triage", "schema": SCHEMA, "strict": True}},
        "owner": "support",
    },
    "labels": ["production", "latest"],
    "tags": ["support"],
    "commitMessage": "Shorter.",
    "resolutionGraph": None,
}
MLFLOW = {
    "model_version": {
        "name": "triage",
        "version": "3",
        "creation_timestamp": 1764500000000,
        "description": "Shorter.",
        "tags": [
            {"key": "mlflow.prompt.is_prompt", "value": "true"},
            {"key": "_mlflow_prompt_type", "value": "chat"},
            {"key": "mlflow.prompt.text", "value": json.dumps([{"role": "system", "content": "Route {{ ticket }}."}])},
            {
                "key": "_mlflow_prompt_model_config",
                "value": json.dumps({"provider": "openai", "model_name": "qwen3", "stop_sequences": ["END"]}),
            },
            {"key": "_mlflow_prompt_response_format", "value": json.dumps(SCHEMA)},
            {"key": "team", "value": "support"},
        ],
        "aliases": ["production"],
    }
}
PROMPTY = """---
name: triage
displayName: Triage
description: Routes a ticket
metadata:
  version: 1.4.0
  authors: [ana]
  tags: [support]
model:
  id: qwen3
  apiType: chat
  connection: {kind: key, endpoint: "${env:ENDPOINT}", apiKey: "${env:KEY}"}
  options:
    temperature: 0.2
    maxOutputTokens: 64
    allowMultipleToolCalls: false
template: {format: {kind: jinja2}, parser: {kind: prompty}}
inputs:
  ticket: {kind: string, required: true, description: Text of the ticket}
  priority: 3
  conversation: {kind: thread}
outputs:
  - {name: queue, kind: string, required: true, enumValues: [billing, other]}
tools:
  - {name: look_up, kind: function, description: Finds, parameters: [{name: id, kind: integer, required: true}]}
---

system:
You route tickets.
Priority {{priority}}: {{ticket}}

{{conversation}}
"""
DOTPROMPT = """# Copyright
---
model: qwen3
name: triage
version: 1.4.0
config: {temperature: 0.2, maxOutputTokens: 64, stopSequences: [END]}
input:
  schema:
    ticket: string, Text of the ticket
    urgent?: boolean
    level(enum, How loud): [low, high]
  default: {level: low}
output:
  format: json
  schema:
    queue: string
    tags?(array, Words): string
toolDefs:
  - {name: look_up, description: Finds, inputSchema: {id: integer}}
metadata: {team: support}
---
{{role "system"}}You route tickets. {{level}}
{{history}}
"""
TEXTS = {"langfuse": json.dumps(LANGFUSE), "mlflow": json.dumps(MLFLOW), "prompty": PROMPTY, "dotprompt": DOTPROMPT}


def read(kind: str, text: str, **wanted: str) -> tuple[dict[str, Any], list[str]]:
    manifest, notes = import_prompt(kind, File("x", text), Wanted(**wanted))
    return manifest, notes


def test_langfuse_prompt_becomes_a_promptversion() -> None:
    manifest, notes = read("langfuse", TEXTS["langfuse"])

    assert manifest["metadata"] == {
        "name": "triage-7.0.0",
        "annotations": {"serin.dev/imported-from": "langfuse: triage version 7"},
    }
    assert manifest["spec"] == {
        "prompt": "triage",
        "version": "7.0.0",
        "model": "qwen3",
        "changeNote": "Shorter.",
        "messages": [
            {"role": "system", "content": "You route tickets of {{customer}}."},
            {"placeholder": "history"},
        ],
        "variables": [{"name": "customer", "required": True}],
        "parameters": {"temperature": 0.2, "maxTokens": 64, "stop": ["END"], "extra": {"top_k": 20}},
        "tools": [TOOL],
        "toolChoice": "look_up",
        "outputSchema": SCHEMA,
        "structured": True,
        "strict": True,
    }
    assert notes == [
        "Declared as required, because the file does not declare them: customer.",
        (
            "Left out, because a PromptVersion has no field for it: config.owner, labels (production, latest), "
            "tags (support), id, createdAt, projectId, createdBy."
        ),
    ]


def test_mlflow_prompt_becomes_a_promptversion() -> None:
    manifest, notes = read("mlflow", TEXTS["mlflow"])

    assert manifest["spec"] == {
        "prompt": "triage",
        "version": "3.0.0",
        "model": "qwen3",
        "changeNote": "Shorter.",
        "messages": [{"role": "system", "content": "Route {{ ticket }}."}],
        "variables": [{"name": "ticket", "required": True}],
        "parameters": {"stop": ["END"]},
        "outputSchema": SCHEMA,
        "structured": True,
    }
    assert notes[-1].endswith(
        ": model_version.tags._mlflow_prompt_model_config.provider, model_version.tags.team, "
        "model_version.creation_timestamp, model_version.aliases."
    )


def test_prompty_file_becomes_a_promptversion() -> None:
    manifest, notes = read("prompty", PROMPTY)

    assert manifest["spec"] == {
        "prompt": "triage",
        "version": "1.4.0",
        "model": "qwen3",
        "author": "ana",
        "description": "Routes a ticket",
        "messages": [
            {"role": "system", "content": "You route tickets.\nPriority {{priority}}: {{ticket}}"},
            {"placeholder": "history"},
        ],
        "variables": [
            {"name": "ticket", "required": True, "description": "Text of the ticket"},
            {"name": "priority", "default": "3", "type": "number"},
        ],
        "parameters": {"temperature": 0.2, "maxTokens": 64, "extra": {"parallel_tool_calls": False}},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Finds",
                    "parameters": {
                        "type": "object",
                        "properties": {"id": {"type": "integer"}},
                        "required": ["id"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
        "outputSchema": {
            "type": "object",
            "properties": {"queue": {"type": "string", "enum": ["billing", "other"]}},
            "required": ["queue"],
            "additionalProperties": False,
        },
        "structured": True,
    }
    assert notes == [
        "Left out, because a PromptVersion has no field for it: metadata.tags, model.connection, displayName."
    ]


def test_first_version_of_prompty_is_read() -> None:
    text = (
        "---\nname: chat\nversion: 1.0.0\nmodel:\n  api: chat\n  configuration: {type: openai}\n"
        "  parameters: {max_tokens: 9}\ninputs: {question: {type: string}}\nsample: {question: Hi}\n---\n"
        "# user:\n{{question}}\n"
    )
    manifest, notes = read("prompty", text)

    assert manifest["spec"]["parameters"] == {"maxTokens": 9}
    assert manifest["spec"]["messages"] == [{"role": "user", "content": "{{question}}"}]
    assert notes == ["Left out, because a PromptVersion has no field for it: model.configuration, sample."]


def test_dotprompt_file_becomes_a_promptversion() -> None:
    manifest, notes = read("dotprompt", DOTPROMPT)

    assert manifest["spec"] == {
        "prompt": "triage",
        "version": "1.4.0",
        "model": "qwen3",
        "messages": [
            {"role": "system", "content": "You route tickets. {{level}}\n"},
            {"placeholder": "history"},
        ],
        "variables": [
            {"name": "ticket", "required": True, "description": "Text of the ticket"},
            {"name": "urgent", "type": "boolean"},
            {"name": "level", "default": "low", "description": "How loud", "enum": ["low", "high"]},
        ],
        "parameters": {"temperature": 0.2, "maxTokens": 64, "stop": ["END"]},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Finds",
                    "parameters": {
                        "type": "object",
                        "properties": {"id": {"type": "integer"}},
                        "required": ["id"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
        "outputSchema": {
            "type": "object",
            "properties": {
                "queue": {"type": "string"},
                "tags": {"type": ["array", "null"], "items": {"type": "string"}, "description": "Words"},
            },
            "required": ["queue"],
            "additionalProperties": False,
        },
        "structured": True,
    }
    assert notes == ["Left out, because a PromptVersion has no field for it: metadata."]


def langfuse(**changes: Any) -> str:
    return json.dumps({**LANGFUSE, "config": {}, **changes})


def said(content: Any, **more: Any) -> str:
    return langfuse(prompt=[{"role": "system", "content": content, **more}])


def mlflow(text: str, kind: str = "text") -> str:
    return json.dumps({"name": "a", "version": 1, "tags": {"mlflow.prompt.text": text, "_mlflow_prompt_type": kind}})


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        ("langfuse", "", "x, line 1: expecting value; write valid JSON."),
        ("langfuse", "[]", "x: this is not a map; correct it."),
        ("langfuse", "{}", "x, prompt: this is no prompt of Langfuse; give the answer of GET /api/public/v2/prompts/"),
        ("langfuse", '{"prompt": "a", "prompt": "b"}', "x: the key prompt appears twice; correct it."),
        ("langfuse", langfuse(version="7"), "x, version: this is not a whole number; correct it."),
        (
            "langfuse",
            langfuse(name="a b"),
            "x makes no valid PromptVersion: spec.prompt (--prompt): Write a DNS label: ",
        ),
        ("langfuse", langfuse(type="text"), "x, type: 'text' does not fit the prompt; "),
        ("langfuse", said("Hi {{"), "x, prompt[0].content: '{{' is not closed. "),
        (
            "langfuse",
            said("Hi {{first-name}}"),
            "x, prompt[0].content: '{{first-name}}' is more than a plain variable. ",
        ),
        ("langfuse", said("{{{name}}}"), "x, prompt[0].content: '{{{name}}}' is more than a plain variable. "),
        (
            "langfuse",
            said("@@@langfusePrompt:name=a|label=b@@@"),
            "x, prompt[0].content: this includes another prompt; ",
        ),
        ("langfuse", said([{"type": "image_url"}]), "x, prompt[0].content: this is not a text; correct it."),
        ("langfuse", said("Hi", tool_calls=[1]), "x, prompt[0].tool_calls: a message of a PromptVersion has only "),
        ("langfuse", langfuse(config={"tools": [{"type": "web"}]}), "x, config.tools[0]: this is no tool of chat "),
        ("langfuse", langfuse(config={"max_tokens": 1, "maxTokens": 2}), "x, config.maxTokens: this is the same "),
        (
            "langfuse",
            langfuse(config={"temperature": 9}),
            "x makes no valid PromptVersion: spec.parameters.temperature: ",
        ),
        ("langfuse", langfuse(config={"response_format": {"type": "json_object"}}), "x, config.response_format.type: "),
        ("langfuse", langfuse(config={"serin": {"messages": []}}), "x, config.serin: 'messages' is no field that "),
        (
            "langfuse",
            langfuse(config={"serin": {"enforce": "maybe"}}),
            "x makes no valid PromptVersion: spec.enforce: ",
        ),
        ("langfuse", said("\ud800"), "x makes no valid PromptVersion: spec"),
        ("mlflow", "{}", "x, tags: a prompt of MLflow has its text in tags; "),
        ("mlflow", mlflow("{% if a %}"), "x, tags.mlflow.prompt.text: '{% if a %}' is more than a plain variable. "),
        ("mlflow", mlflow("{{ user.name }}"), "x, tags.mlflow.prompt.text: '{{ user.name }}' is more than a plain "),
        ("mlflow", mlflow("[", "chat"), "x, tags.mlflow.prompt.text, line 1: expecting value; write valid JSON."),
        (
            "mlflow",
            mlflow("{}", "chat"),
            "x, tags.mlflow.prompt.text: a chat prompt is a list of messages; correct it.",
        ),
        ("prompty", "", "x does not name the prompt; give --prompt NAME."),
        ("prompty", "---\nname: a\n", "x, line 1: the front matter has no end; add a line with ---."),
        ("prompty", "---\nname: a\nname: b\n---\nHi", "x, line 3: the key name appears twice; correct it."),
        (
            "prompty",
            "---\na: &a [1]\nb: *a\n---\nHi",
            "x, line 3: aliases are refused, write the value out; correct it.",
        ),
        ("prompty", "---\n- 1\n---\nHi", "x: this is not a map; correct it."),
        ("prompty", "---\nname: ${env:NAME}\n---\nHi", "x, name: this refers to the environment or to a file, "),
        ("prompty", "---\nname: a\n---\nsystem:\nHi\n{% for a in b %}", "x, line 6: '{% for a in b %}' is more than "),
        (
            "prompty",
            "---\nname: a\n---\nsystem:\n\n{{ a | upper }}",
            "x, line 6: '{{ a | upper }}' is more than a plain ",
        ),
        ("prompty", "---\nname: a\n---\nsystem[x=1]:\nHi", "x, line 4: 'system[x=1]:' is no plain role; "),
        (
            "prompty",
            "---\ninputs: {a: {kind: image}}\n---\n{{a}}",
            "x, inputs.a.kind: a variable cannot be of the kind ",
        ),
        ("prompty", "---\ntools: [{name: a, kind: mcp}]\n---\nHi", "x, tools[0].kind: 'mcp' runs in prompty's own "),
        ("prompty", "---\nmodel: {apiType: image}\n---\nHi", "x, model.apiType: 'image' is no chat; "),
        ("prompty", "---\ninputs: {c: {kind: thread}}\n---\nHi {{c}} there", "x, line 4: the conversation 'c' must "),
        (
            "dotprompt",
            "---\nname: a\n---\nHi\n{{#if a}}x{{/if}}",
            "x, line 5: '{{#if a}}x{{/if}}' is more than a plain ",
        ),
        ("dotprompt", "---\nname: a\n---\n{{>part}}", "x, line 4: '{{>part}}' is more than a plain variable. "),
        ("dotprompt", "{{media url=a}}", "x, line 1: '{{media url=a}}' is more than a plain variable. "),
        ("dotprompt", "\\{{name}}", r"x, line 1: '\\{{name}}' is more than a plain variable. "),
        ("dotprompt", 'a {{{role "user"}}', "x, line 1: '{{{role \"user\"}}' is more than a plain variable. "),
        ("dotprompt", "{{else}}", "x, line 1: '{{else}}' is a word of the template language. "),
        ("dotprompt", 'Hi{{role "tool"}}Hi', "x, line 1: a PromptVersion has no role 'tool'; "),
        ("dotprompt", "---\ntools: [a]\n---\nHi", "x, tools: these tools are registered elsewhere; "),
        ("dotprompt", "---\noutput: {format: json}\n---\nHi", "x, output.format: 'json' without a schema cannot be "),
        (
            "dotprompt",
            "---\ninput: {schema: {a(array): string}}\n---\nHi",
            "x, input.schema.a: a variable is a text, a ",
        ),
        ("dotprompt", "---\ninput: {schema: {a: Ticket}}\n---\nHi", "x, input.schema.a: 'Ticket' is a schema that is "),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_place(kind: str, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read(kind, text)

    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every map in a value that is not a JSON Schema, whose keywords have a meaning of their own."""
    if isinstance(value, dict):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key not in {"schema", "parameters", "default", "function", "inputSchema"} or path[:1] == ("model",):
            yield from paths(inner, (*path, key))


def values(kind: str) -> Any:
    text = TEXTS[kind]
    return json.loads(text) if kind in {"langfuse", "mlflow"} else yaml.safe_load(text.split("---\n")[1])


def test_no_field_is_dropped_in_silence() -> None:
    for kind in FORMATS:
        for path in paths(values(kind)):
            if path[-2:-1] == ("inputs",) and path[-1:] == ("conversation",):
                continue
            changed = copy.deepcopy(values(kind))
            inner = changed
            for key in path:
                inner = inner[key]
            inner["surprise"] = "x"
            text = json.dumps(changed)
            if kind in {"prompty", "dotprompt"}:
                text = "---\n".join(["", yaml.safe_dump(changed), TEXTS[kind].split("---\n")[2]])
            try:
                notes = read(kind, text)[1]
            except InputError:
                continue

            # A map of inputs has the inputs' names as its keys; a map that is left out is named as a whole.
            spoken, whole = " ".join(notes), re.escape(".".join(map(str, path)))
            assert "surprise" in spoken or path == ("inputs",) or re.search(f" {whole}[,.]", spoken), (kind, path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 100_000,
        '{"prompt":' * 50_000,
        "{{" * 500_000,
        "{{ " + " " * 1_000_000,
        "{{a}}" * 200_000,
        '{{role "' * 200_000,
        "{{history}}" * 100_000,
        "\n" * 1_000_000 + "x",
        (" " * 1_000_000) + "x",
        "system:\n" * 100_000,
        "system[" + "] " * 100_000,
        "---\n" * 100_000,
        "---\n" + "a: {b: " * 5_000 + "\n---\nx",
        "---\n" + "a" * 1_000_000,
        "# x\n" * 200_000,
    ],
    ids=lambda text: text[:12].strip() or "white space",
)
def test_hostile_file_ends_soon(kind: str, text: str) -> None:
    began = time.monotonic()
    # White space around a text is no mistake.
    with contextlib.suppress(InputError) if text.endswith("x") else pytest.raises(InputError):
        read(kind, text, family="a", version="1.0.0")

    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", ["langfuse", "mlflow"])
def test_deep_json_within_the_file_is_refused(kind: str) -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}
    text = langfuse(config=deep) if kind == "langfuse" else json.dumps({"tags": deep})

    with pytest.raises(InputError, match=r"^x is nested more than 72 levels deep; flatten it\.$"):
        read(kind, text)


def test_large_and_binary_files_are_refused(tmp_path: Path) -> None:
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_bytes(b"a" * 10 * 2**20)
    binary.write_bytes(b"\xff\xfe")

    with pytest.raises(InputError, match="has more than 8 MiB"):
        read_bytes(str(large))
    with pytest.raises(InputError, match="is not UTF-8"):
        text_of("x", read_bytes(str(binary)))


def test_text_prompt_gets_the_wanted_role_and_a_note() -> None:
    text = langfuse(type="text", prompt="Hi {{name}}")
    manifest, notes = import_prompt("langfuse", File("x", text, "user"), Wanted())

    assert manifest["spec"]["messages"] == [{"role": "user", "content": "Hi {{name}}"}]
    assert notes[0] == "A text prompt has no role; it becomes a user message (--role)."


def test_names_can_be_given() -> None:
    manifest, _ = read("langfuse", langfuse(name="Folder/Triage"), family="triage", version="2.0.0-rc.1", name="mine")

    assert (manifest["metadata"]["name"], manifest["spec"]["version"]) == ("mine", "2.0.0-rc.1")
    assert manifest["metadata"]["annotations"] == {"serin.dev/imported-from": "langfuse: Folder/Triage version 7"}


def test_extension_that_disagrees_with_the_file_is_refused() -> None:
    variables = [{"name": "ticket", "required": True, "maxLength": 99}]
    prompt = stored(make_prompt(messages=[{"role": "user", "content": "{{ ticket }}"}], variables=variables), "x")
    text, notes = export_prompt("prompty", prompt)
    changed = text.replace("kind: string\n  required: true", "kind: float")

    assert notes == ["prompty has no field for variables: only serin prompt import reads metadata.serin."]
    assert read("prompty", text)[0]["spec"]["variables"] == variables
    assert changed != text
    with pytest.raises(InputError, match=r"variables was changed outside of metadata.serin after the export; "):
        read("prompty", changed)


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("langfuse", {"messages": [{"role": "user", "content": "{{a-b}}"}]}, "is plain text here, but a template in "),
        ("langfuse", {"messages": [{"role": "user", "content": "@@@langfusePrompt:x"}]}, "includes another prompt in "),
        ("mlflow", {"messages": [{"placeholder": "history"}]}, "MLflow has no placeholder"),
        ("prompty", {"messages": [{"role": "user", "content": "a\u2028b"}]}, "reads more characters than \\n as line "),
        (
            "prompty",
            {"messages": [{"placeholder": "history"}]},
            "prompty has no conversation before the first message; ",
        ),
        ("prompty", {"messages": [{"role": "user", "content": "a\nuser:\nb"}]}, "the line 'user:' begins a message "),
        ("prompty", {"messages": [{"role": "user", "content": "a\n"}]}, "does not keep white space at the ends "),
        ("prompty", {"description": "a --- b"}, "prompty reads '---' and '+++' as the end of the front matter"),
        ("dotprompt", {"messages": [{"role": "user", "content": "a\n"}]}, "does not keep white space at the end; "),
        ("dotprompt", {"messages": [{"role": "user", "content": "a {"}]}, "reads a brace or backslash at the end "),
        ("dotprompt", {"messages": [{"role": "developer", "content": "a"}]}, "dotprompt has no role developer; "),
    ],
)
def test_export_refuses_what_the_format_cannot_say(kind: str, spec: dict[str, Any], sentence: str) -> None:
    prompt = stored(make_prompt(**spec), "x")

    with pytest.raises(InputError) as error:
        export_prompt(kind, prompt)
    assert sentence in str(error.value)
