"""A vLLM plugin of the group `vllm.stat_logger_plugins` that reads the times of each finished request.

vLLM's API server loads it through the package's entry point. It is the only module that imports vLLM. vLLM's interface
is not stable: this is written for 0.32, and an attribute that is missing in another version counts as a failure.

vLLM does not store the time to first token by request id. It is computed as total time minus decoding time (on the
engine's clock, from the first to the last token). It differs from vLLM's own `time_to_first_token` only by the transfer
of tokens from engine to API server, which cancels out if it takes equally long for the first and the last token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from .recorder import shared
from .timings import Times, cached


class StatLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not installed when types are checked
    """The plugin, created once per engine by vLLM's API server; `record` runs in the server's event loop."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:  # noqa: ARG002 - vLLM's signature
        self._recorder = shared()
        self._recorder.engine_reports = True

    def record(
        self,
        scheduler_stats: Any,  # noqa: ARG002 - vLLM's signature
        iteration_stats: Any,
        mm_cache_stats: Any = None,  # noqa: ARG002
        engine_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Report the requests that finished in one step of the engine; vLLM calls it after every step."""
        if iteration_stats is None:
            return
        try:
            finished = iteration_stats.finished_requests
        except AttributeError:
            # Another version of vLLM. An exception would end its output loop, and with it every request.
            self._recorder.count_failure()
            return
        if finished:
            self._recorder.report(_sequences(finished))

    def log_engine_initialized(self) -> None:
        """Do nothing; vLLM requires the method."""


def _sequences(finished: Iterable[Any]) -> Iterator[tuple[str, Times]]:
    for one in finished:
        # The times come from the clocks of two processes, so a difference can be negative by microseconds.
        yield (
            one.request_id or "",
            Times(
                ttft=max(one.e2e_latency - one.decode_time, 0.0),
                e2e=max(one.e2e_latency, 0.0),
                queue=max(one.queued_time, 0.0),
                per_token=one.mean_time_per_output_token if one.num_generation_tokens > 1 else None,
                finish_reason=str(one.finish_reason),
                # The engine counts from 0; -1 or a missing number means that it does not know.
                cached=cached(getattr(one, "num_prompt_tokens", 0), getattr(one, "num_cached_tokens", 0)),
                prompt_tokens=getattr(one, "num_prompt_tokens", None),
                output_tokens=one.num_generation_tokens,
            ),
        )
