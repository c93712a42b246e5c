"""The engine part of an LLMDeployment: model, vLLM's image, flags and resources.

All of it makes pods differ, hence is hashed into the engine revision (except `engine.cache`). Rules refuse what Serin
sets itself, so that no manifest can take the ground from under a rollout. Rendering pods is `serin.manifests`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serin.api.base import ApiModel
from serin.api.fields import Image, IntOrString, ModelName, SecretKey, Subdomain, matches, pattern, quoted, refused
from serin.api.quantity import amount
from serin.api.rule import Rule

GPU = "nvidia.com/gpu"

OWNED_FLAGS = (
    "model",
    "model-tag",
    "revision",
    "served-model-name",
    "middleware",
    "enable-lora",
    "max-loras",
    "shutdown-timeout",
    "port",
    "host",
    "uds",
    "api-server-count",
    "config",
    "disable-log-stats",
)
"""Flags of `vllm serve` that Serin sets itself or relies on; `ssl-*` and the alias `asc` are added below."""


def _beginnings(flag: str) -> str:
    """Pattern of a flag and of each of its beginnings: vLLM's parser (argparse) takes those for the flag."""
    nested = ""
    for letter in reversed(flag):
        nested = ("[-_]" if letter == "-" else letter) + (f"({nested})?" if nested else "")
    return nested


_OWNED = "|".join([*map(_beginnings, OWNED_FLAGS), "asc", "s(s(l([-_].*)?)?)?"])
_OWNED_FLAG = f"^(?i:(no[-_])?({_OWNED})([.+].*)?)$"
_FLAG = "^[A-Za-z][A-Za-z0-9._-]*[+]?$"
_is_owned = matches(_OWNED_FLAG)
_is_flag = matches(_FLAG)

Source = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    refused("^oci://", "oci:// is not supported yet; use hf://, pvc:// or file://."),
    pattern("^(hf|pvc|file|oci)://", "Begin with hf://, pvc:// or file://."),
    pattern(
        "^hf://[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9_./-]*$",
        "Write hf://org/model@commit; without a commit or tag nobody can say later what was served.",
        prefix="hf://",
    ),
    refused(
        "^hf://.*@(main|master|HEAD)$", "Name a commit or tag after '@'; a branch moves, and no canary would notice."
    ),
    pattern(
        "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9_./@+-]+$",
        "Write pvc://claim/path, the path of letters, digits and . _ - + @ /.",
        prefix="pvc://",
    ),
    pattern(
        "^file:///[A-Za-z0-9_./@+-]+$",
        "Write file:///path, an absolute path inside the container, of letters, digits and . _ - + @ /.",
        prefix="file://",
    ),
    refused("/[.][.](/|$)", "Write the path without '..'."),
]

Args = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=64),
    Rule(
        cel=f"self.all(flag, flag.matches({quoted(_FLAG)}))",
        message="Write flags of `vllm serve` without their leading dashes: letters, digits, '-', '_' and '.'.",
        holds=lambda args: all(map(_is_flag, args)),
    ),
    Rule(
        cel=f"!self.exists(flag, flag.matches({quoted(_OWNED_FLAG)}))",
        message="Remove the flags that Serin sets itself, and abbreviations of them: "
        + ", ".join([*OWNED_FLAGS, "ssl-*"])
        + ".",
        holds=lambda args: not any(map(_is_owned, args)),
    ),
]


class Model(ApiModel):
    """What is served."""

    name: ModelName
    """The name that clients send in `model`."""
    source: Source
    """Where the weights are: `hf://org/model@<commit>`, `pvc://claim/path` or `file:///path/in/the/container`."""


class SecretKeyRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: Subdomain
    """The Secret."""
    key: SecretKey = "token"
    """Its key."""


class Cache(ApiModel):
    """Where downloaded weights stay."""

    pvc: Subdomain
    """A PersistentVolumeClaim in the same namespace."""


Quantities = Annotated[
    dict[str, IntOrString],
    Field(max_length=16),
    Rule(
        cel="self.all(name, isQuantity(string(self[name])) && !quantity(string(self[name])).isLessThan(quantity('0')))",
        message="Write quantities such as 2, 500m or 16Gi, none of them negative.",
        holds=lambda quantities: (
            all((amount(value) or 0) >= 0 for value in quantities.values())
            and all(amount(value) is not None for value in quantities.values())
        ),
    ),
    Rule(
        cel=f"!('{GPU}' in self) || string(self['{GPU}']).matches('^[0-9]+$')",
        message=f"Write a whole number of {GPU}; a pod cannot have a part of one.",
        holds=lambda quantities: GPU not in quantities or str(quantities[GPU]).isdecimal(),
    ),
]


def _within_limits(resources: Resources) -> bool:
    pairs = [
        (amount(resources.requests[name]), amount(resources.limits[name]))
        for name in resources.requests
        if name in resources.limits
    ]
    return all(request <= limit for request, limit in pairs if request is not None and limit is not None)


class Resources(ApiModel):
    """Kubernetes resource requests and limits of the engine container."""

    RULES = (
        Rule(
            cel="!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "!isQuantity(string(self.requests[name])) || !isQuantity(string(self.limits[name])) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            message="Raise the limit or lower the request; a request cannot be above its limit.",
            holds=_within_limits,
        ),
    )

    limits: Quantities = {}
    """What the container may use; `{}` is a CPU engine without limits."""
    requests: Quantities = {}
    """What the scheduler reserves."""


class Engine(ApiModel):
    """The vLLM that serves the model."""

    image: Image | None = None
    """Any vLLM image whose entrypoint is `vllm serve`; the operator's default when absent."""
    args: Args = {}
    """`vllm serve` flags without their dashes, verbatim; the value `true` renders a bare flag."""
    resources: Resources | None = None
    """Requests and limits of the engine container; one `nvidia.com/gpu` when absent."""
    cache: Cache | None = None
    """Where downloaded weights stay; downloaded by every pod anew when absent."""
    hf_token_secret_ref: SecretKeyRef | None = None
    """The Hugging Face token for gated models."""
