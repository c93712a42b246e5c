"""The way in: which Gateways serve the model, under which names.

Matches, filters and timeouts are Gateway API's own and pass through; the API server judges them when the HTTPRoute is
applied, and its sentence becomes a condition. Rendering the route is `serin.routers`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from serin.api.base import ApiModel
from serin.api.fields import Hostname, Label, Subdomain, matches, quoted
from serin.api.rule import VALIDATIONS

_TIMEOUT = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
_TIMEOUT_MESSAGE = "Write a duration like 0s, 30s or 1h30m; 0s is no timeout."
_TIMEOUT_SCHEMA = {
    "type": "string",
    "maxLength": 28,
    VALIDATIONS: [{"rule": f"self.matches({quoted(_TIMEOUT)})", "message": _TIMEOUT_MESSAGE}],
}
_is_timeout = matches(_TIMEOUT)


def _are_timeouts(timeouts: dict[str, str]) -> dict[str, str]:
    for name, value in timeouts.items():
        if name not in {"request", "backendRequest"}:
            raise ValueError(f"Remove {name}; there are the timeouts request and backendRequest.")
        if not _is_timeout(value):
            raise ValueError(_TIMEOUT_MESSAGE)
    return timeouts


Timeouts = Annotated[
    dict[str, str],
    AfterValidator(_are_timeouts),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "request": _TIMEOUT_SCHEMA | {"description": "From the request's first byte to the answer's last."},
                "backendRequest": _TIMEOUT_SCHEMA | {"description": "The same for one attempt at a pod."},
            },
        }
    ),
]
Loose = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 16}),
]


class ParentRef(ApiModel):
    """A Gateway, as in an HTTPRoute's `parentRefs`."""

    name: Subdomain
    """The Gateway."""
    namespace: Label | None = None
    """Its namespace; the LLMDeployment's when absent."""
    section_name: Subdomain | None = None
    """One of its listeners; all that admit the route when absent."""
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Only listeners on this port."""


class Gateway(ApiModel):
    """How requests reach the model."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)]
    """The Gateways that serve the model."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Host names of requests for this model; every request that the Gateways admit when empty."""
    matches: Annotated[list[Loose], Field(max_length=8)] = []
    """HTTPRoute matches; the OpenAI paths that vLLM serves when empty."""
    filters: Annotated[list[Loose], Field(max_length=8)] = []
    """HTTPRoute filters of the rule."""
    timeouts: Timeouts = {}
    """HTTPRoute timeouts; `request: 0s` unless set, because a stream has no natural end."""


class Routing(ApiModel):
    """The way in."""

    gateway: Gateway
    """Routing by Gateway API: an HTTPRoute named like the LLMDeployment."""
