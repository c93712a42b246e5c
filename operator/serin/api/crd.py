"""The two CustomResourceDefinitions, printed from the models.

`python -m serin.api` writes them to `crds/` and to the chart; a check fails when those differ from what is said here.
The API server is the judge of the result: tests/integration applies every rule to a real one.
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
    """A column of `kubectl get`; those that are not `always` need `-o wide`."""

    name: str
    path: str
    type: str = "string"
    always: bool = True

    def render(self) -> dict[str, Any]:
        """The column as a CRD has it."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return column if self.always else column | {"priority": 1}


@dataclass(frozen=True)
class Kind:
    """What a CRD says about a kind beside its schema."""

    kind: str
    plural: str
    short: str
    description: str
    columns: tuple[Column, ...]
    spec: type[ApiModel]
    status: type[ApiModel]
    rules: tuple[Mapping[str, str], ...] = ()
    """Rules over the whole object."""
    spec_rules: tuple[Mapping[str, str], ...] = ()
    """Rules over the spec that only an API server can check."""
    scale: Mapping[str, str] | None = None


NOT_OBSERVED = -1
"""`status.observedGeneration` of an object that Serin has not seen: kstatus, and with it Flux and Argo CD, takes it for
in progress. Without this default an object without a status would count as current."""

AGE = Column("Age", ".metadata.creationTimestamp", type="date")

LLMDEPLOYMENT = Kind(
    kind="LLMDeployment",
    plural=LLMDEPLOYMENTS,
    short="llmdep",
    description="One model served by vLLM, every change of which is tried as a canary.",
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

PROMPTVERSION = Kind(
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

KINDS = (LLMDEPLOYMENT, PROMPTVERSION)


def render_crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = dict(kind.scale)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": [GROUP.partition(".")[0]],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": [column.render() for column in kind.columns],
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _root(kind: Kind) -> dict[str, Any]:
    spec = structural_schema(kind.spec)
    if kind.spec_rules:
        spec[VALIDATIONS] = [*spec.get(VALIDATIONS, ()), *map(dict, kind.spec_rules)]
    root: dict[str, Any] = {"description": kind.description, "type": "object", "required": ["spec"]}
    if kind.rules:
        root[VALIDATIONS] = [dict(rule) for rule in kind.rules]
    root["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
        "status": structural_schema(kind.status) | {"default": {"observedGeneration": NOT_OBSERVED}},
    }
    return root
