"""`contentHash`: the identity of a prompt, independent of the name of its PromptVersion.

The first 12 hex digits of the SHA-256 of the canonical JSON (RFC 8785) of all fields that can change an answer. Default
values and empty parameters are omitted, so that the API server does not change the hash by filling them in, and a new
field changes no hash where it is not set. The other fields (prompt, version, author, description, labels, changeNote)
are not hashed. docs/reference/content-hash.md has test vectors.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from serin.api.canonical_json import canonical_json

if TYPE_CHECKING:
    from serin.api.promptversion import PromptVersionSpec

NOT_HASHED = frozenset({"prompt", "version", "author", "description", "labels", "change_note"})
DIGITS = 12


def content_hash(spec: PromptVersionSpec) -> str:
    """The content hash, 12 hex digits.

    Raises:
        SpecError: a schema has no canonical JSON.
    """
    return hashlib.sha256(canonical_json(_schemas(spec), lambda: hashed_content(spec))).hexdigest()[:DIGITS]


def hashed_content(spec: PromptVersionSpec) -> dict[str, Any]:
    """The JSON value whose canonical form is hashed."""
    # Not in JSON mode: that writes infinity as null, and replaces half a surrogate pair.
    content = spec.model_dump(by_alias=True, exclude=set(NOT_HASHED), exclude_defaults=True)
    parameters = content.get("parameters", {})
    if not parameters.get("extra"):
        parameters.pop("extra", None)
    if not parameters:
        content.pop("parameters", None)
    return content


def _schemas(spec: PromptVersionSpec) -> str:
    """Where the JSON is that may have no canonical form; everything else was validated."""
    return "spec.tools and spec.outputSchema" if spec.tools else "spec.outputSchema"
