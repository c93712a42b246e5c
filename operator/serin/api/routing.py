"""`spec.routing`: the Gateways and hostnames that serve the model.

Matches, filters and timeouts have the form of Gateway API and pass through unchanged; the API server validates them
when the HTTPRoute is applied, and its message becomes a condition. `serin.routers` renders the route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from serin.api.base import ApiModel
from serin.api.fields import Hostname, Label, Subdomain, matches, must_match, must_not_match, quoted
from serin.api.rule import VALIDATIONS, Rule

_TIMEOUT = "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
_TIMEOUT_MESSAGE = "Write a duration such as 0s, 30s or 1h30m; 0s means no timeout."
_TIMEOUT_SCHEMA = {
    "type": "string",
    "maxLength": 28,
    VALIDATIONS: [{"rule": f"self.matches({quoted(_TIMEOUT)})", "message": _TIMEOUT_MESSAGE}],
}
_is_timeout = matches(_TIMEOUT)


def _are_timeouts(timeouts: dict[str, str]) -> dict[str, str]:
    for name, value in timeouts.items():
        if name not in {"request", "backendRequest"}:
            raise ValueError(f"Remove {name}; the only timeouts are request and backendRequest.")
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
                "request": _TIMEOUT_SCHEMA
                | {
                    "description": "Time from the first byte of a request to the last byte of its answer; 0s: no limit."
                },
                "backendRequest": _TIMEOUT_SCHEMA | {"description": "Time for one attempt at one pod; 0s: no limit."},
            },
        }
    ),
]
PassedThrough = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 16}),
]


def _has_lists(entry: Mapping[str, Any]) -> bool:
    modifier = entry.get("requestHeaderModifier") or {}
    actions = ("set", "add", "remove")
    return isinstance(modifier, Mapping) and all(isinstance(modifier.get(name) or [], list) for name in actions)


def _can_be_merged(filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Serin adds its headers to this filter; the shape of the others is for the API server to judge."""
    if not all(_has_lists(entry) for entry in filters if entry.get("type") == "RequestHeaderModifier"):
        raise ValueError("Write requestHeaderModifier as a map of lists: set, add and remove.")
    return filters


class ParentRef(ApiModel):
    """Reference to a Gateway, with the fields of an HTTPRoute's `parentRefs`."""

    name: Subdomain
    """Name of the Gateway."""
    namespace: Label | None = None
    """Namespace of the Gateway. Default: the namespace of the LLMDeployment."""
    section_name: Subdomain | None = None
    """Name of a listener of the Gateway. Default: every listener that admits the route."""
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Port of the listeners to use. Default: any port."""


class Gateway(ApiModel):
    """How requests reach the model."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)]
    """Gateways that serve the model."""
    hostnames: Annotated[list[Hostname], Field(max_length=16)] = []
    """Hostnames that the HTTPRoute matches. Default: every hostname that the Gateways admit."""
    matches: Annotated[list[PassedThrough], Field(max_length=8)] = []
    """HTTPRoute matches, passed through unchanged. Default: the inference paths of vLLM, such as
    `/v1/chat/completions`, each matched exactly."""
    filters: Annotated[list[PassedThrough], Field(max_length=8), AfterValidator(_can_be_merged)] = []
    """HTTPRoute filters, which apply to every request. Serin's headers are added to a RequestHeaderModifier; headers
    `x-serin-…` in it have no effect."""
    timeouts: Timeouts = {}
    """HTTPRoute timeouts. Default: `request: 0s` (no limit), because a streamed answer can take any time."""
    session_persistence: bool = False
    """Set this to true where a policy at the gateway keeps a client at one backend. A few clients then decide what
    reaches the canary: excluded answers and lost requests hold it, but do not take its weight. A change takes effect
    with the next trial."""


HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    must_match("^[A-Za-z0-9-]+$", "Write the name of an HTTP header: letters, digits and '-'."),
    must_not_match("^(?i:x-serin-)", "Choose another header; those that begin with x-serin- are reserved for Serin."),
]


class Conversation(ApiModel):
    """The first user message of a request."""


class Sticky(ApiModel):
    """What requests have in common that get the same revision where pods split between prompts."""

    RULES = (
        Rule(
            cel="has(self.header) != has(self.conversation)",
            message="Set either header or conversation.",
            holds=lambda sticky: (sticky.header is None) != (sticky.conversation is None),
        ),
    )

    header: HeaderName | None = None
    """Name of a header, such as `x-session-id`, with a value for each user or session. A request without it, or with
    two of them, gets a random revision."""
    conversation: Conversation | None = None
    """`{}`: the first user message. All requests of a conversation have it, so clients need no change."""


class Routing(ApiModel):
    """How requests reach the model."""

    gateway: Gateway
    """Routing with Gateway API: Serin creates an HTTPRoute with the name of the LLMDeployment."""
    reveal_revision: bool = False
    """Names the revision in the response header `x-serin-revision`. A client that knows its revision can abort requests
    by revision and so influence the verdict; set this for demonstrations and internal endpoints."""
    sticky: Sticky | None = None
    """How the pods choose between two prompts on trial. Default: at random for each request, which mixes the tools and
    earlier answers of two prompts inside one agent loop. It has no effect between engines, where the gateway splits."""
    access_log: bool = False
    """Writes one JSON line for each request into the engine's log: request id, revision, prompt, epoch, outcome and
    tokens, but no text. Pods that a version of Serin without prompts made write none."""
