"""`PromptVersion`: one immutable version of a prompt, identified by the hash of its content.

`serin.api.content_hash` computes the hash. Only the parser checks that the template uses declared variables (as a CEL
rule, this check costs a hundred times the API server's budget), the references of the output schema, and the size of
the whole. A violation becomes a condition of the PromptVersion, and of the LLMDeployments that use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serin.api.base import ApiModel, list_map
from serin.api.fields import LABEL_KEY, Label, ModelName, matches, must_match, quoted
from serin.api.prompt_settings import CHOICES, JsonObject, Parameters, Tools, WireName
from serin.api.prompt_template import Messages, Variable
from serin.api.rule import Rule

_SEMVER = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
"""The grammar of Semantic Versioning 2.0.0."""
_is_key = matches(LABEL_KEY)
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
"""Keywords of JSON Schema that name another schema, which a validator might fetch."""


def _refers_only_to_itself(schema: dict[str, Any]) -> dict[str, Any]:
    nodes: list[Any] = [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Mapping):
            for name, value in node.items():
                if name in REFERENCES and isinstance(value, str) and not value.startswith("#"):
                    raise ValueError(f"Replace {name} {value!r:.80} by a reference within the schema, '#/$defs/...'.")
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return schema


def _tool_is_declared(spec: PromptVersionSpec) -> bool:
    names = {tool.function.name for tool in spec.tools}
    return spec.tool_choice is None or (bool(names) and spec.tool_choice in {*CHOICES, *names})


class PromptVersionSpec(ApiModel):
    """Content of the prompt; it cannot be changed after creation."""

    RULES = (
        Rule(
            cel="has(self.outputSchema) || (!(has(self.structured) && self.structured) && "
            "!(has(self.strict) && self.strict) && !has(self.outputName))",
            message="Add outputSchema; without it, structured, strict and outputName have no effect.",
            holds=lambda spec: (
                spec.output_schema is not None or not (spec.structured or spec.strict or spec.output_name is not None)
            ),
        ),
        Rule(
            cel=f"!has(self.toolChoice) || (has(self.tools) && (self.toolChoice in {list(CHOICES)} || "
            "self.tools.exists(t, t.__function__.name == self.toolChoice)))",
            message="Set toolChoice to none, auto, required or the name of a tool in tools.",
            holds=_tool_is_declared,
        ),
    )

    prompt: Label
    """Name of the prompt, the same for all its versions."""
    version: Annotated[
        str,
        Field(min_length=1, max_length=64),
        must_match(_SEMVER, "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without a leading v."),
    ]
    """Version of the prompt, as in Semantic Versioning 2.0.0."""
    model: ModelName | None = None
    """Name of the model that the prompt was written for."""
    author: Annotated[str | None, Field(max_length=253)] = None
    """Author, for readers."""
    description: Annotated[str | None, Field(max_length=4096)] = None
    """Purpose of the prompt, for readers."""
    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=253)]],
        Field(max_length=32),
        Rule(
            cel=f"self.all(key, key.matches({quoted(LABEL_KEY)}))",
            message="Write Kubernetes label keys such as team or example.com/team: letters, digits, '-', '_' and '.'.",
            holds=lambda labels: all(map(_is_key, labels)),
        ),
    ] = {}
    """Labels, for readers."""
    change_note: Annotated[str | None, Field(max_length=4096)] = None
    """What is new in this version, for readers."""
    messages: Messages
    """Messages of the template, in order."""
    variables: Annotated[list[Variable], Field(max_length=64, json_schema_extra=list_map("name"))] = []
    """Variables that the messages may use."""
    parameters: Parameters | None = None
    """Sampling parameters of the prompt."""
    tools: Tools = []
    """Tools that the model may call."""
    tool_choice: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    """Which tools the model calls: `none`, `auto`, `required` (one or more), or the name of one. Default: `auto`."""
    output_schema: Annotated[JsonObject | None, AfterValidator(_refers_only_to_itself)] = None
    """JSON Schema that answers must match. References are allowed only within the schema."""
    structured: bool = False
    """Whether vLLM makes every answer match outputSchema. Otherwise the schema is only checked."""
    output_name: WireName | None = None
    """Name of the output schema in requests. Default: the name of the prompt."""
    strict: bool = False
    """Whether requests mark the output schema as strict."""
    client_system: Literal["Merge", "Reject"] = "Merge"
    """What happens to system and developer messages of the client: `Merge` appends them to the prompt's system message;
    `Reject` refuses such requests."""
    enforce: bool = False
    """Whether parameters, tools and output format of the prompt replace those of a request. Otherwise they are
    defaults."""

    @model_validator(mode="after")
    def _variables_are_declared(self) -> Self:
        declared = [variable.name for variable in self.variables]
        if len(set(declared)) < len(declared):
            raise ValueError("Declare each variable once; two variables have the same name.")
        used = {name for message in self.messages for name in message.variables}
        if unknown := sorted(used - set(declared)):
            raise ValueError(f"Declare {', '.join(unknown)} in variables, or correct the placeholder.")
        return self
