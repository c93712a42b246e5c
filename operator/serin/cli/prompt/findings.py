"""What lint finds: levels and the form of one finding. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The API server, the operator or a pod refuses the prompt."""
    WARNING = "warning"
    """The prompt works, but probably not as its author means."""


@dataclass(frozen=True)
class Finding:
    """One thing that lint has found in one PromptVersion."""

    level: Level
    where: str
    """Path of the field."""
    message: str
    """What, why, and what to do."""


def error(where: str, message: str) -> Finding:
    """A finding that makes lint fail."""
    return Finding(Level.ERROR, where, message)


def warning(where: str, message: str) -> Finding:
    """A finding that lint reports."""
    return Finding(Level.WARNING, where, message)
