"""Parses `spec.model.source`.

vLLM downloads `hf://org/model@commit`; `pvc://claim/path` is a volume, `file:///path` a path in the container. The CRD
rejects invalid sources; the error here is for objects that were stored under an older CRD.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serin.errors import SpecError

_HUB = re.compile(r"hf://(?P<model>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<commit>[A-Za-z0-9][\w./-]*))?")
_CLAIM = re.compile(r"pvc://(?P<claim>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?P<path>/.*)?")
_FILE = re.compile(r"file://(?P<path>/.+)")

MODELS = "/models"
"""Directory below which PersistentVolumeClaims are mounted."""


@dataclass(frozen=True)
class ModelSource:
    """The first argument of `vllm serve`, and the volume that it needs."""

    argument: str
    commit: str | None = None
    """Commit or tag on the hub, or None."""
    claim: str | None = None
    """PersistentVolumeClaim that holds the weights, or None."""
    local: bool = True
    """False if vLLM downloads the weights."""

    @property
    def mount_path(self) -> str:
        """Directory at which the claim is mounted."""
        return f"{MODELS}/{self.claim}"


def read_source(source: str) -> ModelSource:
    """Parse `spec.model.source`.

    Raises:
        SpecError: the source is invalid.
    """
    if hub := _HUB.fullmatch(source):
        return ModelSource(argument=hub["model"], commit=hub["commit"], local=False)
    if claim := _CLAIM.fullmatch(source):
        path = (claim["path"] or "").rstrip("/")
        return ModelSource(argument=f"{MODELS}/{claim['claim']}{path}", claim=claim["claim"])
    if file := _FILE.fullmatch(source):
        return ModelSource(argument=file["path"])
    raise SpecError(
        f"spec.model.source {source!r} is invalid; "
        "write hf://org/model@commit, pvc://claim/path or file:///path/in/the/container."
    )
