"""Parses stored objects into the API models, with one sentence for the user as the error.

The API server rejects most invalid objects itself. They are validated again because an object may have been stored
under an older or a modified CRD. Called by the reconciler; the error becomes the condition Accepted=False.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serin.api.base import ApiModel
from serin.api.fields import matches
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.api.names import MAX_NAME_LENGTH
from serin.api.nesting import MAX_LEVELS, elements, is_deeper_than
from serin.api.promptversion import PromptVersionSpec
from serin.api.salvage import salvage_llmdeployment
from serin.errors import SpecError

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MESSAGE = (
    "Choose a name of lower case letters, digits and '-' that begins with a letter and has at most "
    f"{MAX_NAME_LENGTH} characters; the names of Services and pods begin with it."
)
MAX_PROBLEMS = 50
MAX_PROMPT_BYTES = 128 * 1024
"""UTF-8 bytes of a PromptVersion's spec as JSON without spaces; two stand in a split document."""
MAX_FREE_FORM_BYTES = 64 * 1024
"""UTF-8 bytes of podTemplate, matches and filters as JSON without spaces; each record has a podTemplate."""
MAX_PROMPT_ELEMENTS = 8_000
"""Pods read documents of at most 20,000 brackets and commas."""
_FIELD_MESSAGES = {
    "missing": "Add this field; it is required.",
    "extra_forbidden": "Remove this field; it does not exist.",
}
_is_name = matches(NAME_PATTERN)

Spec = TypeVar("Spec", bound=ApiModel)


def parse_llmdeployment(manifest: Mapping[str, Any]) -> LLMDeploymentSpec:
    """The spec of an LLMDeployment.

    Raises:
        SpecError: it breaks the schema or a rule, or its free-form fields are too large.
    """
    name = manifest.get("metadata", {}).get("name", "")
    if len(name) > MAX_NAME_LENGTH or not _is_name(name):
        raise SpecError(f"metadata.name: {NAME_MESSAGE}")
    spec = _parse(LLMDeploymentSpec, manifest)
    _refuse_large_free_form(spec)
    return spec


def read_spec(manifest: Mapping[str, Any]) -> tuple[LLMDeploymentSpec, frozenset[str], SpecError | None]:
    """The spec of an LLMDeployment, the top-level fields that break a rule, and what is wrong with them."""
    try:
        return parse_llmdeployment(manifest), frozenset(), None
    except SpecError as error:
        return *salvage_llmdeployment(manifest), error


def parse_promptversion(manifest: Mapping[str, Any]) -> PromptVersionSpec:
    """The spec of a PromptVersion.

    Raises:
        SpecError: it breaks the schema or a rule, or is too large for a split document.
    """
    spec = _parse(PromptVersionSpec, manifest)
    _refuse_large(manifest["spec"])
    return spec


def promptversion_problems(manifest: Mapping[str, Any]) -> list[str]:
    """Every sentence that says why a PromptVersion is invalid, at most MAX_PROBLEMS; empty if it is valid."""
    try:
        parse_promptversion(manifest)
    except SpecError as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            return [str(error)]
        return list(dict.fromkeys(map(_sentence, cause.errors(include_url=False)[:MAX_PROBLEMS])))
    return []


def _parse(model: type[Spec], manifest: Mapping[str, Any]) -> Spec:
    spec = manifest.get("spec", {})
    _refuse_deep(spec)
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        raise SpecError(_sentence(error.errors(include_url=False)[0])) from error


def _size(where: str, value: object) -> int:
    """UTF-8 bytes of the JSON without spaces."""
    try:
        return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass"))
    except ValueError as error:  # a number of thousands of digits
        raise SpecError(f"{where} holds a number that is too long; write it as a string.") from error


def _refuse_large_free_form(spec: LLMDeploymentSpec) -> None:
    gateway, pod = spec.routing.gateway, spec.pod_template
    sizes = {
        "spec.podTemplate": _size("spec.podTemplate", [pod.metadata, pod.spec]) if pod else 0,
        "spec.routing.gateway.matches": _size("spec.routing.gateway.matches", gateway.matches),
        "spec.routing.gateway.filters": _size("spec.routing.gateway.filters", gateway.filters),
    }
    if (total := sum(sizes.values())) > MAX_FREE_FORM_BYTES:
        largest = max(sizes, key=lambda where: sizes[where])
        raise SpecError(
            f"{largest} is too large: podTemplate, matches and filters have {total} bytes as JSON, and at most "
            f"{MAX_FREE_FORM_BYTES} are allowed; shorten it."
        )


def _refuse_large(prompt: Mapping[str, Any]) -> None:
    size = _size("spec", prompt)
    if size > MAX_PROMPT_BYTES:
        raise SpecError(
            f"spec has {size} bytes as JSON, and at most {MAX_PROMPT_BYTES} are allowed, because pods get the prompt "
            "in a ConfigMap; shorten it."
        )
    if (parts := elements(prompt)) > MAX_PROMPT_ELEMENTS:
        raise SpecError(
            f"spec has {parts} brackets and commas as JSON, and at most {MAX_PROMPT_ELEMENTS} are allowed; shorten the "
            "schemas."
        )


def _refuse_deep(spec: object) -> None:
    """Before anything recurses over the spec: pydantic, hashing and rendering do."""
    if not is_deeper_than(spec, MAX_LEVELS):
        return
    fields = spec.items() if isinstance(spec, dict) else ()
    where = next((f"spec.{name}" for name, value in fields if is_deeper_than(value, MAX_LEVELS - 1)), "spec")
    raise SpecError(f"{where} is nested more than {MAX_LEVELS} levels deep, counted from spec; flatten it.")


def _sentence(details: ErrorDetails) -> str:
    """The first error in the form of the API server: the path of the field, then the message."""
    where = "spec"
    for part in details["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = _FIELD_MESSAGES.get(details["type"]) or details["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if message.endswith(".") else f"{where}: {message}; correct it."
