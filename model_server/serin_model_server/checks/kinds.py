"""The kinds of checks by their names in the split document.

The modules of the kinds that run in the child process are imported only there: `regex` and `jsonschema` cost 30 MB.
"""

from __future__ import annotations

from importlib import import_module

from . import contains, empty, max_chars, truncated
from .answer import Judge, Parameters

INLINE = {
    "Empty": empty.prepare,
    "Truncated": truncated.prepare,
    "MaxChars": max_chars.prepare,
    "Contains": contains.prepare,
}
"""The kinds that run in the event loop: none takes more than a few searches of the text."""
IN_CHILD = {"Regex": "pattern", "Refusal": "refusal", "Repetition": "repetition", "Schema": "schema"}
"""The kinds that run in the child process, with their modules."""


def prepare(kind: str, given: Parameters) -> Judge:
    """The check of any kind, with its parameters.

    Raises:
        ValueError: the parameters are not as documented.
    """
    if kind in INLINE:
        return INLINE[kind](given)
    module = import_module(f".{IN_CHILD[kind]}", __package__)
    judge: Judge = module.prepare(given)
    return judge


PARAMETERS = {
    "Regex": frozenset({"pattern", "expect"}),
    "Refusal": frozenset({"patterns"}),
    "Repetition": frozenset({"times", "compressionRatio"}),
    "Schema": frozenset[str](),
}
"""The parameters in the document of the kinds in IN_CHILD; their values are checked in the child process."""
