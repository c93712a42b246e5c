"""The two CustomResourceDefinitions, generated from the models.

`python -m serin.api` writes them to `crds/` and to the chart; `make check` fails if the files differ from the models.
tests/integration applies every rule to a real API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serin.api.base import ApiModel
from serin.api.fields import quoted
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import GROUP, LLMDEPLOYMENTS, MAX_NAME_LENGTH, PROMPTVERSIONS, VERSION
from serin.api.parse import NAME_MESSAGE, NAME_PATTERN
from serin.api.promptversion import PromptVersionSpec
from serin.api.rule import VALIDATIONS
from serin.api.schema import structural_schema
from serin.api.status import LLMDeploymentStatus, PromptVersionStatus


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; columns that are not `always` need `-o wide`."""

    name: str
    path: str
    type: str = "string"
    always: bool = True

    def render(self) -> dict[str, Any]:
        """The column as an entry of `additionalPrinterColumns`."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return column if self.always else column | {"priority": 1}


@dataclass(frozen=True)
class CustomResource:
    """The parts of a CRD: names, columns, models and rules of one kind."""

    kind: str
    plural: str
    short: str
    description: str
    columns: tuple[Column, ...]
    spec: type[ApiModel]
    status: type[ApiModel]
    rules: tuple[Mapping[str, str], ...] = ()
    """Rules for the whole object."""
    spec_rules: tuple[Mapping[str, str], ...] = ()
    """Rules for the spec that only an API server can check."""
    scale: Mapping[str, str] | None = None


NOT_OBSERVED = -1
"""`status.observedGeneration` of an object that Serin has not seen: kstatus, and with it Flux and Argo CD, takes it for
in progress. Without this default an object without a status would count as current."""

AGE = Column("Age", ".metadata.creationTimestamp", type="date")

LLMDEPLOYMENT = CustomResource(
    kind="LLMDeployment",
    plural=LLMDEPLOYMENTS,
    short="llmdep",
    description="One model served by vLLM; every change is tried as a canary before it is promoted.",
    columns=(
        Column("Phase", ".status.phase"),
        Column("Weight", ".status.weight"),
        Column("Step", ".status.step"),
        Column("Model", ".status.model"),
        Column("Prompt", ".status.prompt"),
        Column("Verdict", ".status.verdict"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        AGE,
        Column("Stable", ".status.stable.revision", always=False),
        Column("Canary", ".status.canary.revision", always=False),
        Column("Message", ".status.message", always=False),
    ),
    spec=LLMDeploymentSpec,
    status=LLMDeploymentStatus,
    rules=(
        {
            "rule": f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && "
            f"self.metadata.name.matches({quoted(NAME_PATTERN)})",
            "message": NAME_MESSAGE,
        },
    ),
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

PROMPTVERSION = CustomResource(
    kind="PromptVersion",
    plural=PROMPTVERSIONS,
    short="pver",
    description="One immutable version of a prompt, identified by the hash of its content.",
    columns=(
        Column("Prompt", ".spec.prompt"),
        Column("Version", ".spec.version"),
        Column("Hash", ".status.contentHash"),
        Column("Used By", ".status.usedByCount", type="integer"),
        AGE,
        Column("Model", ".spec.model", always=False),
        Column("Author", ".spec.author", always=False),
    ),
    spec=PromptVersionSpec,
    status=PromptVersionStatus,
    spec_rules=(
        {
            "rule": "self == oldSelf",
            "message": "A PromptVersion cannot be changed; create a new one with another name and version.",
        },
    ),
)

CUSTOM_RESOURCES = (LLMDEPLOYMENT, PROMPTVERSION)


def render_crd(resource: CustomResource) -> dict[str, Any]:
    """The CustomResourceDefinition as a manifest."""
    subresources: dict[str, Any] = {"status": {}}
    if resource.scale:
        subresources["scale"] = dict(resource.scale)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short],
                "categories": [GROUP.partition(".")[0]],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [column.render() for column in resource.columns],
                    "schema": {"openAPIV3Schema": _root(resource)},
                }
            ],
        },
    }


def _root(resource: CustomResource) -> dict[str, Any]:
    spec = structural_schema(resource.spec)
    if resource.spec_rules:
        spec[VALIDATIONS] = [*spec.get(VALIDATIONS, ()), *map(dict, resource.spec_rules)]
    root: dict[str, Any] = {"description": resource.description, "type": "object", "required": ["spec"]}
    if resource.rules:
        root[VALIDATIONS] = [dict(rule) for rule in resource.rules]
    root["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
        "status": structural_schema(resource.status) | {"default": {"observedGeneration": NOT_OBSERVED}},
    }
    return root
