"""`spec.model` and `spec.engine`: the model, and vLLM's image, flags and resources.

All fields except `engine.cache` are hashed into the engine revision, because they make pods differ. Rules reject what
Serin sets itself, so that no manifest can break a rollout. `serin.manifests` renders the pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from serin.api.base import ApiModel
from serin.api.fields import (
    Image,
    IntOrString,
    ModelName,
    SecretKey,
    Subdomain,
    matches,
    must_match,
    must_not_match,
    quoted,
)
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
"""Flags of `vllm serve` that Serin sets itself or depends on; `ssl-*` and the alias `asc` are added below."""


PROMPT_FLAGS = (
    "enable-scale-out",
    "trust-request-chat-template",
    "grpc",
    "grpc-port",
    "headless",
    "data-parallel-multi-port-external-lb",
)
"""Flags with which requests reach vLLM past the middleware, or replace the prompt's chat template."""


def _abbreviations(flag: str) -> str:
    """Pattern of a flag and of every prefix of it: vLLM's parser (argparse) accepts prefixes as abbreviations."""
    nested = ""
    for letter in reversed(flag):
        nested = ("[-_]" if letter == "-" else letter) + (f"({nested})?" if nested else "")
    return nested


_OWNED = "|".join([*map(_abbreviations, OWNED_FLAGS), "asc", "s(s(l([-_].*)?)?)?"])
_OWNED_FLAG = f"^(?i:(no[-_])?({_OWNED})([.+].*)?)$"
_FLAG = "^[A-Za-z][A-Za-z0-9._-]*[+]?$"
BYPASS_FLAG = f"^(?i:({'|'.join(map(_abbreviations, PROMPT_FLAGS))}))$"
"""Pattern of PROMPT_FLAGS and their abbreviations."""
_is_owned = matches(_OWNED_FLAG)
_is_flag = matches(_FLAG)


def flag_values(args: Mapping[str, str], flag: str) -> tuple[str, ...]:
    """The values that a flag of vLLM gets, under its name or an abbreviation."""
    is_flag = matches(f"^(?i:{_abbreviations(flag)})$")
    return tuple(value for name, value in args.items() if is_flag(name))


Source = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    must_not_match("^oci://", "oci:// is not supported yet; use hf://, pvc:// or file://."),
    must_match("^(hf|pvc|file|oci)://", "Begin with hf://, pvc:// or file://."),
    must_match(
        "^hf://[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9_./-]*$",
        "Write hf://org/model@commit; a commit or tag is required, so that a revision always has the same weights.",
        prefix="hf://",
    ),
    must_not_match(
        "^hf://.*@(main|master|HEAD)$",
        "Name a commit or tag after '@'; the weights of a branch can change without a canary.",
    ),
    must_match(
        "^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9_./@+-]+$",
        "Write pvc://claim/path; the path may have letters, digits and . _ - + @ /.",
        prefix="pvc://",
    ),
    must_match(
        "^file:///[A-Za-z0-9_./@+-]+$",
        "Write file:///path, an absolute path in the container; it may have letters, digits and . _ - + @ /.",
        prefix="file://",
    ),
    must_not_match("/[.][.](/|$)", "Remove '..' from the path."),
]

Args = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=64),
    Rule(
        cel=f"self.all(flag, flag.matches({quoted(_FLAG)}))",
        message="Write names of `vllm serve` flags without leading dashes: letters, digits, '-', '_' and '.'.",
        holds=lambda args: all(map(_is_flag, args)),
    ),
    Rule(
        cel=f"!self.exists(flag, flag.matches({quoted(_OWNED_FLAG)}))",
        message="Remove the flags that Serin sets itself, and their abbreviations: "
        + ", ".join([*OWNED_FLAGS, "ssl-*"])
        + ".",
        holds=lambda args: not any(map(_is_owned, args)),
    ),
]


class Model(ApiModel):
    """The model to serve."""

    name: ModelName
    """Name that clients send in the `model` field of a request."""
    source: Source
    """Location of the weights: `hf://org/model@<commit>`, `pvc://claim/path` or `file:///path/in/the/container`."""


class SecretKeyRef(ApiModel):
    """Reference to one key of a Secret in the same namespace."""

    name: Subdomain
    """Name of the Secret."""
    key: SecretKey = "token"
    """Key in the Secret."""


class Cache(ApiModel):
    """Persistent storage for downloaded weights."""

    pvc: Subdomain
    """Name of a PersistentVolumeClaim in the same namespace."""


Quantities = Annotated[
    dict[str, IntOrString],
    Field(max_length=16),
    Rule(
        cel="self.all(name, isQuantity(string(self[name])) && !quantity(string(self[name])).isLessThan(quantity('0')))",
        message="Write non-negative quantities such as 2, 500m or 16Gi.",
        holds=lambda quantities: (
            all((amount(value) or 0) >= 0 for value in quantities.values())
            and all(amount(value) is not None for value in quantities.values())
        ),
    ),
    Rule(
        cel=f"!('{GPU}' in self) || string(self['{GPU}']).matches('^[0-9]+$')",
        message=f"Write a whole number for {GPU}; a container cannot have a fraction of a GPU.",
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
    """Resource requests and limits of the engine container."""

    RULES = (
        Rule(
            cel="!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "!isQuantity(string(self.requests[name])) || !isQuantity(string(self.limits[name])) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            message="Raise the limit or lower the request; a request must not exceed its limit.",
            holds=_within_limits,
        ),
    )

    limits: Quantities = {}
    """Resource limits by resource name; `{}` means a CPU engine without limits."""
    requests: Quantities = {}
    """Resource requests by resource name."""


class Engine(ApiModel):
    """How vLLM runs: image, flags and resources."""

    image: Image | None = None
    """vLLM image whose entrypoint is `vllm serve`. Default: the operator's setting SERIN_DEFAULT_IMAGE."""
    args: Args = {}
    """Flags of `vllm serve` by name, without leading dashes. Values are passed unchanged; `true` sets a flag without a
    value."""
    resources: Resources | None = None
    """Resource requests and limits of the engine container. Default: one `nvidia.com/gpu`."""
    cache: Cache | None = None
    """Persistent storage for downloaded weights. Default: none; every pod downloads the weights again."""
    hf_token_secret_ref: SecretKeyRef | None = None
    """Secret that holds the Hugging Face token, for gated models."""
