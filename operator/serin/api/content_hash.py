"""`contentHash`: what identifies a prompt, whatever its PromptVersion is called.

First 12 hex digits of SHA-256 over the canonical JSON (RFC 8785) of what can change an answer: messages, variables,
parameters, output schema and model. Defaults are left out, so that an object to which the API server added them hashes
alike. Author, description, labels, family and version change no answer and are not hashed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import rfc8785

from serin.errors import SpecError

if TYPE_CHECKING:
    from serin.api.promptversion import PromptVersionSpec

HASHED = frozenset({"messages", "variables", "parameters", "output_schema", "model"})
DIGITS = 12


def content_hash(spec: PromptVersionSpec) -> str:
    """The hash, 12 hex digits.

    Raises:
        SpecError: the output schema holds a number that JSON cannot carry exactly.
    """
    content = spec.model_dump(mode="json", by_alias=True, include=set(HASHED), exclude_defaults=True)
    if not content.get("parameters"):
        content.pop("parameters", None)
    try:
        canonical = rfc8785.dumps(content)
    except rfc8785.CanonicalizationError as error:
        raise SpecError(f"spec.outputSchema cannot be hashed ({error}); keep its numbers within 53 bits.") from error
    return hashlib.sha256(canonical).hexdigest()[:DIGITS]
