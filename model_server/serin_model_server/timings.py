"""The times that vLLM's engine reports for one request.

Created by `stat_logger`, passed through the recorder, observed by `metrics`. A request can consist of several sequences
(`n`, or a list of prompts). It stays one observation: the shortest time to first token, the longest of every other
time, and the sum of the tokens. That is what its client waited for and got, and it is independent of the observations
of other requests.

Not here: which request a report belongs to (`join`), and reading vLLM's objects (`stat_logger`).
"""

from __future__ import annotations

from .load import HIGH, LOW


class Times:
    """Times of one request, in seconds, its finish reason and its numbers of tokens."""

    __slots__ = (*("cached", "e2e", "finish_reason", "output_tokens", "per_token", "prompt_tokens", "queue", "ttft"),)

    def __init__(
        self,
        *,
        ttft: float,
        e2e: float,
        queue: float,
        per_token: float | None,
        finish_reason: str = "stop",
        cached: str = LOW,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> None:
        self.ttft = ttft
        self.e2e = e2e
        self.queue = queue
        self.per_token = per_token
        """Mean time per output token after the first; None for a response of one token."""
        self.finish_reason = finish_reason
        self.cached = cached
        """`HIGH` if the prefix cache had at least half of the prompt's tokens, else `LOW`."""
        self.prompt_tokens = prompt_tokens
        """Of the longest sequence; None if the engine does not say."""
        self.output_tokens = output_tokens
        """Of all sequences; None if the engine does not say."""

    def merge(self, other: Times) -> None:
        """Add another sequence of the same request."""
        self.ttft = min(self.ttft, other.ttft)
        self.e2e = max(self.e2e, other.e2e)
        self.queue = max(self.queue, other.queue)
        if other.per_token is not None:
            self.per_token = max(self.per_token or 0.0, other.per_token)
        if other.finish_reason in {"error", "abort"}:
            self.finish_reason = other.finish_reason
        if other.cached == LOW:
            self.cached = LOW
        if other.prompt_tokens is not None:
            self.prompt_tokens = max(self.prompt_tokens or 0, other.prompt_tokens)
        if other.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + other.output_tokens


def cached(prompt_tokens: int, cached_tokens: int) -> str:
    """Whether the prefix cache had much of a prompt."""
    return HIGH if prompt_tokens > 0 and 2 * cached_tokens >= prompt_tokens else LOW
