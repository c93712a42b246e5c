"""vLLM's side of the timings: a plugin of the group `vllm.stat_logger_plugins` that reads each finished request.

Loaded by vLLM's API server where it finds our entry point; the only module that imports vLLM. vLLM's interface is not
stable: this is written for 0.32, and whatever is missing in another version is counted as a failure of measuring.

vLLM keeps no time to first token by request id. It is taken from what it does keep: total time minus decoding time (the
engine's clock, from the first to the last token). That is vLLM's own `time_to_first_token` but for the way of a token
from the engine to the API server, whose length cancels out where it is the same for the first and the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from .recorder import shared
from .timings import Times


class StatLogger(StatLoggerBase):  # type: ignore[misc] # vLLM is not there when types are checked
    """Made once per engine by vLLM's API server, in whose event loop `record` runs."""

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
        """Called after every step of the engine; most steps finish nothing."""
        if iteration_stats is None:
            return
        try:
            finished = iteration_stats.finished_requests
        except AttributeError:
            # Another version of vLLM. An exception here would end its output loop, and with it every request.
            self._recorder.failed()
            return
        if finished:
            self._recorder.report(_sequences(finished))

    def log_engine_initialized(self) -> None:
        """Nothing to tell."""


def _sequences(finished: Iterable[Any]) -> Iterator[tuple[str, Times]]:
    for one in finished:
        # Clocks of two processes: a difference can come out below zero by microseconds.
        yield (
            one.request_id or "",
            Times(
                ttft=max(one.e2e_latency - one.decode_time, 0.0),
                e2e=max(one.e2e_latency, 0.0),
                queue=max(one.queued_time, 0.0),
                per_token=one.mean_time_per_output_token if one.num_generation_tokens > 1 else None,
                finish_reason=str(one.finish_reason),
            ),
        )
