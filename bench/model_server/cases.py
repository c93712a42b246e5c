"""What the measured server has in force: nothing, a prompt, or a prompt and five checks.

The client of the bare server sends the prompt's text itself, so that the engine has the same work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.model_server.load import body, split_document
from model_server.serve import MODEL

SIZES = (2_048, 65_536, 524_288)
SYSTEM = "Triage the ticket. Answer in JSON."
SCHEMA = {
    "type": "object",
    "required": ["queue", "priority"],
    "properties": {"queue": {"enum": ["network", "billing", "hardware", "access"]}},
}
PROMPT = {
    "version": "1.0.0",
    "hash": "0123456789ab",
    "messages": [{"role": "system", "content": SYSTEM}],
    "outputSchema": SCHEMA,
}
CHECKS: tuple[Mapping[str, Any], ...] = (
    {"name": "schema", "kind": "Schema"},
    {"name": "empty", "kind": "Empty"},
    {"name": "truncated", "kind": "Truncated"},
    {"name": "format", "kind": "Regex", "pattern": "^{.*}$"},
    {"name": "repetition", "kind": "Repetition"},
)


@dataclass(frozen=True)
class Body:
    """A row: the bodies of its requests."""

    size: int
    escaped: bool = False
    p99_at_most: float = 1.0
    """Milliseconds that may be added to the time to first token."""

    @property
    def name(self) -> str:
        """The first cell of the row."""
        return f"{self.size // 1024} KB" + (", `\\u`-escaped" if self.escaped else "")

    def made(self, number: int, *, system: str | None = None) -> bytes:
        """The body of a request; see `load.body`."""
        return body(MODEL, self.size, number, system=system, escaped=self.escaped)


@dataclass(frozen=True)
class Case:
    """A section of the page."""

    title: str
    prompt: Mapping[str, Any] | None = None
    checks: Sequence[Mapping[str, Any]] = ()

    @property
    def bodies(self) -> tuple[Body, ...]:
        """Its rows. Escape sequences matter only to what reads bodies."""
        escaped = (Body(SIZES[-1], escaped=True, p99_at_most=2.0),) if self.prompt else ()
        return (*map(Body, SIZES), *escaped)

    @property
    def split(self) -> bytes:
        """The split document."""
        return split_document(self.prompt, self.checks)

    @property
    def bare_system(self) -> str | None:
        """What the client of the bare server sends as a system message."""
        return SYSTEM if self.prompt else None


CASES = {
    "measuring": Case("Measuring only"),
    "prompt": Case("A prompt in force", PROMPT),
    "checks": Case("A prompt and five checks", PROMPT, CHECKS),
}
