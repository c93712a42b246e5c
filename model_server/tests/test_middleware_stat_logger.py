"""What the plugin reads from vLLM's statistics. vLLM is replaced here; the slow tests use the real one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from model_server.serin_model_server import recorder as recorders
from model_server.serin_model_server.identity import Identity, Stamp
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.recorder import Recorder
from model_server.serin_model_server.warmup import Warmup

MODULE = "model_server.serin_model_server.stat_logger"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def recorder(registry: CollectorRegistry) -> Recorder:
    return Recorder(Metrics(registry), warmup=Warmup(requests=0))


@pytest.fixture
def logger(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The plugin, with a stand-in for the only class of vLLM that it needs."""
    loggers = ModuleType("vllm.v1.metrics.loggers")
    loggers.StatLoggerBase = object  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.v1", "vllm.v1.metrics"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.v1.metrics.loggers", loggers)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setattr(recorders, "shared", lambda: recorder)
    from model_server.serin_model_server.stat_logger import StatLogger

    yield StatLogger(vllm_config=None)
    sys.modules.pop(MODULE, None)


def finished(request_id: str | None = "chatcmpl-mine", **changes: Any) -> SimpleNamespace:
    facts = {
        "request_id": request_id,
        "e2e_latency": 2.0,
        "decode_time": 1.5,
        "queued_time": 0.25,
        "mean_time_per_output_token": 0.1,
        "num_generation_tokens": 16,
        "finish_reason": "stop",
    }
    return SimpleNamespace(**(facts | changes))


def seconds(registry: CollectorRegistry, name: str) -> tuple[float | None, ...]:
    labels = {"revision": "abcdef0123", "epoch": "7"}
    return tuple(registry.get_sample_value(f"serin_{name}_seconds_{part}", labels) for part in ("count", "sum"))


def ask(recorder: Recorder, logger: Any, *sequences: SimpleNamespace) -> None:
    measured = recorder.begin("/v1/chat/completions", Stamp(Identity("abcdef0123", "7"), b"mine"))
    assert measured is not None
    logger.record(None, SimpleNamespace(finished_requests=list(sequences)))
    recorder.end(measured, "ok")


def test_time_to_first_token_is_total_minus_decode_time(
    recorder: Recorder, logger: Any, registry: CollectorRegistry
) -> None:
    ask(recorder, logger, finished("chatcmpl-other"), finished(), finished(None))

    assert seconds(registry, "time_to_first_token") == (1, 0.5)
    assert seconds(registry, "e2e_request_latency") == (1, 2.0)
    assert seconds(registry, "request_queue_time") == (1, 0.25)
    assert seconds(registry, "request_time_per_output_token") == (1, 0.1)
    assert registry.get_sample_value("serin_output_tokens_sum", {"revision": "abcdef0123", "epoch": "7"}) == 16


def test_clock_differences_give_no_negative_times(recorder: Recorder, logger: Any, registry: CollectorRegistry) -> None:
    ask(recorder, logger, finished(decode_time=2.1, queued_time=-0.1, num_generation_tokens=1))

    assert seconds(registry, "time_to_first_token") == (1, 0)
    assert seconds(registry, "request_queue_time") == (1, 0)
    assert seconds(registry, "request_time_per_output_token") == (0, 0)


@pytest.mark.parametrize(
    "stats",
    [SimpleNamespace(), SimpleNamespace(finished_requests=[SimpleNamespace(request_id="chatcmpl-mine")])],
    ids=["no-list", "no-times"],
)
def test_unknown_vllm_statistics_count_as_one_failure(
    logger: Any, registry: CollectorRegistry, stats: SimpleNamespace
) -> None:
    logger.record(None, stats)
    logger.record(None, None)

    assert registry.get_sample_value("serin_middleware_failures_total") == 1


@pytest.mark.parametrize("request_id", [None, "", "-0", "chatcmpl-", "another"])
def test_engine_without_request_ids_is_counted_and_not_timed(
    recorder: Recorder, logger: Any, registry: CollectorRegistry, request_id: str | None
) -> None:
    for _ in range(50):
        ask(recorder, logger, finished(request_id))

    labels = {"revision": "abcdef0123", "epoch": "7", "outcome": "ok"}
    assert registry.get_sample_value("serin_requests_total", labels) == 50
    assert seconds(registry, "e2e_request_latency") == (0, 0)
    assert registry.get_sample_value("serin_middleware_failures_total") == 0
