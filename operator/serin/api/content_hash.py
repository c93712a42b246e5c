"""`contentHash`: the identity of a prompt, independent of the name of its PromptVersion.

The first 12 hex digits of the SHA-256 of the canonical JSON (RFC 8785) of all fields that can change an answer:
messages, variables, parameters, output schema and model. Default values are omitted, so that the API server does not
change the hash by filling them in. The other fields (prompt, version, author, description, labels) are not hashed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from serin.api.canonical_json import canonical_json

if TYPE_CHECKING:
    from serin.api.promptversion import PromptVersionSpec

HASHED = frozenset({"messages", "variables", "parameters", "output_schema", "model"})
DIGITS = 12


def content_hash(spec: PromptVersionSpec) -> str:
    """The content hash, 12 hex digits.

    Raises:
        SpecError: the output schema has no canonical JSON.
    """

    def content() -> dict[str, Any]:
        hashed = spec.model_dump(
            mode="json", by_alias=True, include=set(HASHED - {"output_schema"}), exclude_defaults=True
        )
        if not hashed.get("parameters"):
            hashed.pop("parameters", None)
        if spec.output_schema is not None:
            # As it was written: pydantic would write infinity as null, and replace half a surrogate pair.
            hashed["outputSchema"] = spec.output_schema
        return hashed

    return hashlib.sha256(canonical_json("spec.outputSchema", content)).hexdigest()[:DIGITS]
