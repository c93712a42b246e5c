"""Where the weights come from: `spec.model.source` turned into what the pod needs.

`hf://org/model@commit` is downloaded by vLLM, `pvc://claim/path` is a volume, `file:///path` is inside the container.
The CRD refuses what cannot be read; the errors here are for objects that were stored before its rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serin.errors import SpecError

_HUB = re.compile(r"hf://(?P<model>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<commit>[A-Za-z0-9][\w./-]*))?")
_CLAIM = re.compile(r"pvc://(?P<claim>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?P<path>/.*)?")
_FILE = re.compile(r"file://(?P<path>/.+)")

MODELS = "/models"
"""Under which claims with weights are mounted."""


@dataclass(frozen=True)
class ModelSource:
    """The first argument of `vllm serve`, and what has to be there for it."""

    argument: str
    commit: str | None = None
    """Revision on the hub, or None."""
    claim: str | None = None
    """PersistentVolumeClaim that holds the weights, or None."""
    local: bool = True
    """False when vLLM downloads the weights."""

    @property
    def mount_path(self) -> str:
        """Where the claim is mounted."""
        return f"{MODELS}/{self.claim}"


def read_source(source: str) -> ModelSource:
    """Read `spec.model.source`.

    Raises:
        SpecError: the source is of no known form.
    """
    if hub := _HUB.fullmatch(source):
        return ModelSource(argument=hub["model"], commit=hub["commit"], local=False)
    if claim := _CLAIM.fullmatch(source):
        path = (claim["path"] or "").rstrip("/")
        return ModelSource(argument=f"{MODELS}/{claim['claim']}{path}", claim=claim["claim"])
    if file := _FILE.fullmatch(source):
        return ModelSource(argument=file["path"])
    raise SpecError(
        f"spec.model.source {source!r} cannot be read; "
        "write hf://org/model@commit, pvc://claim/path or file:///path/in/the/container."
    )
