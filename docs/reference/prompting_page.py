"""Generates `prompting.md`: what a pod accepts, changes and refuses while a prompt is in force.

Called by `docs.reference.generate`. Paths, fields, parameters and codes come from the middleware.
"""

from __future__ import annotations

from collections.abc import Iterable

from docs.reference.texts import table
from model_server.serin_model_server.prompting import paths
from model_server.serin_model_server.prompting.fields import (
    CHAT_COMPLETIONS,
    MESSAGES_API,
    RESPONSES_API,
    TEMPLATE_ARGUMENTS,
    TOKEN_COUNT,
    Endpoint,
)
from model_server.serin_model_server.prompting.prompt import DEFAULT_MAX_LENGTH, EXTRA, PARAMETERS
from model_server.serin_model_server.prompting.stage import DEFAULT_LIMIT, LIMIT_VARIABLE
from model_server.serin_model_server.prompting.template import MAX_RENDERED

ENDPOINTS = {
    paths.CHAT: CHAT_COMPLETIONS,
    paths.RESPONSES: RESPONSES_API,
    paths.MESSAGES: MESSAGES_API,
    paths.COUNT_TOKENS: TOKEN_COUNT,
}
CODES = {
    "path_not_prompted": (404, "excluded", "the path would answer without the prompt"),
    "invalid_json": (400, "excluded", "the body is not JSON in UTF-8, or is nested too deeply"),
    "invalid_body": (400, "excluded", "a field has another type than the endpoint accepts"),
    "body_too_large": (413, "excluded", f"the body is above `{LIMIT_VARIABLE}`"),
    "field_not_accepted": (400, "excluded", "a field is not known to leave the prompt as it is; `param` names it"),
    "system_content_not_text": (400, "excluded", "a leading system message of the client has something else than text"),
    "prompt_not_found": (400, "excluded", "`prompt_id` or `prompt.id` names a prompt that is not served"),
    "missing_prompt_variable": (400, "rejected", "a required variable is missing; `param` names it"),
    "invalid_prompt_variable": (400, "rejected", "a value has another type, is too long, or is not in its `enum`"),
    "special_token_in_variable": (400, "rejected", "a variable contains a special token of the model"),
    "prompt_too_long": (400, "rejected", f"a message has more than {MAX_RENDERED:,} characters with its variables"),
    "client_system_not_accepted": (400, "rejected", "the prompt has `clientSystem: Reject`"),
    "message_not_last": (400, "rejected", "the prompt ends with a message of its own, so none can be continued"),
    "parameter_not_supported": (400, "rejected", "the prompt enforces a parameter that the endpoint does not have"),
    "no_split_document": (503, "server_error", "the pod has loaded no split document"),
    "prompt_failed": (500, "server_error", "the prompt could not be applied; the reason is in the engine's log"),
}
"""Status, outcome and meaning of each refusal."""


def prompting_page() -> list[str]:
    """The page of what a pod does with requests of a revision that has a prompt."""
    return [
        "# Requests while a prompt is in force",
        "",
        "A pod puts the prompt of the chosen revision into each request, or refuses the request. It never passes a",
        "request on unprompted. Written for vLLM 0.32.",
        "",
        "## Paths",
        *table(
            ("POST requests to", "get"),
            (
                (_names(ENDPOINTS), "the prompt; tokens are counted with the stable's"),
                (_names(sorted(paths.PASSED)), "passed on: they answer no conversation"),
                ("`/v1/responses/ID/cancel`", "passed on"),
                ("any other path, for example `/v1/completions`", "404 `path_not_prompted`"),
            ),
        ),
        "",
        "## Fields for Serin",
        "They are removed before vLLM reads the request.",
        "",
        *table(
            ("field", "meaning"),
            (
                ("`prompt_variables`", "object of values by the name of the variable; undeclared names are ignored"),
                ("`prompt_id`", "if sent, it must be the name of the served prompt"),
                ("`prompt_version`, `prompt_label`", "ignored: the split chooses the version"),
                ("`prompt` of the Responses API", "`id` as `prompt_id`; text `variables` as `prompt_variables`"),
            ),
        ),
        "",
        f"A value has at most {DEFAULT_MAX_LENGTH:,} characters, or the variable's `maxLength`. A body has at most",
        f"{DEFAULT_LIMIT:,} bytes, or the number in the engine's variable `{LIMIT_VARIABLE}`.",
        "",
        "## Parameters",
        "The prompt's parameters, tools and output schema are defaults: what the client sets wins, unless the prompt",
        "has `enforce: true`. `null` counts as not set. Where a cell is empty, the endpoint lacks the parameter: it is",
        "left out, or, with `enforce`, the request gets 400 `parameter_not_supported`. The client's tools replace the",
        "prompt's as a whole, and then the prompt's `toolChoice` does not apply.",
        "",
        *table(("parameter of the prompt", *(f"`{path}`" for path in _WITH_PARAMETERS)), _parameters()),
        "",
        "## Accepted fields",
        "A field that is not in this table is refused with 400 `field_not_accepted`, unless its value is `null` or its",
        "default, because vLLM accepts unknown fields in silence. Accepted keys of `chat_template_kwargs`:",
        f"{_names(sorted(TEMPLATE_ARGUMENTS))}.",
        "",
        *table(
            ("endpoint", "accepted fields"),
            ((f"`{path}`", _names(sorted(endpoint.allowed))) for path, endpoint in ENDPOINTS.items()),
        ),
        "",
        "## Refusals",
        "The answer has the form of the API: OpenAI's with `code` and `param`, Anthropic's below `/v1/messages`. The",
        "outcome is that of `serin_requests_total`: `excluded` does not depend on the revision, `rejected` does.",
        "",
        *table(
            ("code", "status", "outcome", "when"),
            ((f"`{code}`", str(status), f"`{outcome}`", text) for code, (status, outcome, text) in CODES.items()),
        ),
    ]


_WITH_PARAMETERS = {path: endpoint for path, endpoint in ENDPOINTS.items() if not endpoint.counts_only}


def _parameters() -> Iterable[tuple[str, ...]]:
    named = {wire: name for name, wire in PARAMETERS.items()} | {name: f"extra.{name}" for name in sorted(EXTRA)}
    for wire, name in named.items():
        yield (f"`{name}`", *(_place(endpoint, wire) for endpoint in _WITH_PARAMETERS.values()))
    yield ("`tools`", *["`tools`"] * len(_WITH_PARAMETERS))
    yield ("`toolChoice`", *["`tool_choice`"] * len(_WITH_PARAMETERS))
    yield ("`outputSchema` if `structured`", "`response_format`", "`structured_outputs`", "`output_config.format`")


def _place(endpoint: Endpoint, wire: str) -> str:
    place = endpoint.places.get(wire)
    return "" if place is None else f"`{'.'.join(place)}`"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
