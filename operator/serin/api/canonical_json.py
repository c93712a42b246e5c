"""Canonical JSON (RFC 8785), with a sentence for everything that has none.

Used by the two modules that hash what users write: `serin.api.content_hash` and `serin.rollout.revision`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import rfc8785

from serin.errors import SpecError


def canonical_json(where: str, content: Callable[[], Mapping[str, Any]]) -> bytes:
    """The canonical JSON of a part of a spec.

    Args:
        where: path of that part, for the message.
        content: makes the JSON value; what it raises about the value is reported alike.

    Raises:
        SpecError: the part holds a number or text that JSON cannot carry exactly, or is nested too deeply.
    """
    try:
        return rfc8785.dumps(content())
    except rfc8785.IntegerDomainError as error:
        advice = "keep whole numbers within 53 bits, or write them as strings"
        raise SpecError(f"{where} cannot be hashed ({error}); {advice}.") from error
    except rfc8785.FloatDomainError as error:
        raise SpecError(f"{where} cannot be hashed ({error}); write finite numbers only.") from error
    except RecursionError as error:
        raise SpecError(f"{where} is nested too deeply to be hashed; flatten it.") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"{where} cannot be hashed ({reason}); write valid Unicode and at most 64 levels.") from error
