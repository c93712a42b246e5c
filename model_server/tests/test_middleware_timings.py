"""Joining reports with requests, merging sequences, and dropping times of cold revisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model_server.serin_model_server.identity import Identity, Stamp
from model_server.serin_model_server.join import Join
from model_server.serin_model_server.metrics import Metrics
from model_server.serin_model_server.recorder import Measured, Recorder
from model_server.serin_model_server.timings import Times
from model_server.serin_model_server.warmup import Warmup

WHO = Identity("abcdef0123", "7")
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Process:
    """A recorder of one process; revisions are warm from the start unless a warmup is given."""

    def __init__(self, join: Join | None = None, warmup: Warmup | None = None) -> None:
        self.registry = CollectorRegistry()
        self.clock = Clock()
        self.recorder = Recorder(
            Metrics(self.registry), join, Warmup(requests=0) if warmup is None else warmup, self.clock
        )
        self.recorder.engine_reports = True

    def begin(self, path: str = CHAT, request_id: bytes | None = b"mine", who: Identity = WHO) -> Measured:
        measured = self.recorder.begin(path, Stamp(who, request_id))
        assert measured is not None
        return measured

    def seconds(self, family: str, who: Identity = WHO) -> tuple[float, float]:
        """Count and sum of a histogram."""
        values = [
            self.registry.get_sample_value(f"serin_{family}_{part}", {"revision": who.revision, "epoch": who.epoch})
            for part in ("count", "sum")
        ]
        return values[0] or 0.0, values[1] or 0.0

    def failures(self) -> float | None:
        return self.registry.get_sample_value("serin_middleware_failures_total")


def times(ttft: float = 0.1, e2e: float = 2.0, **more: float | str | None) -> Times:
    facts = {"queue": 0.01, "per_token": 0.05, "finish_reason": "stop"} | more
    return Times(ttft=ttft, e2e=e2e, **facts)  # type: ignore[arg-type] # as a dict of mixed values


def test_report_before_end_is_observed_at_end() -> None:
    process = Process()
    measured = process.begin()
    process.recorder.report([("chatcmpl-mine", times())])
    assert process.seconds("time_to_first_token_seconds")[0] == 0
    process.recorder.end(measured, "ok")

    assert process.seconds("time_to_first_token_seconds") == (1, 0.1)
    assert process.seconds("e2e_request_latency_seconds") == (1, 2.0)
    assert process.seconds("request_queue_time_seconds") == (1, 0.01)
    assert process.seconds("request_time_per_output_token_seconds") == (1, 0.05)
    assert len(process.recorder.join) == 0


def test_report_after_end_is_observed_on_arrival() -> None:
    process = Process()
    process.recorder.end(process.begin(), "ok")
    assert process.seconds("e2e_request_latency_seconds")[0] == 0
    process.recorder.report([("chatcmpl-mine", times()), ("chatcmpl-other", times())])

    assert process.seconds("e2e_request_latency_seconds") == (1, 2.0)
    assert len(process.recorder.join) == 0


@pytest.mark.parametrize("late", [False, True], ids=["before-the-end", "after-the-end"])
def test_several_sequences_are_one_observation(*, late: bool) -> None:
    process = Process()
    measured = process.begin(COMPLETIONS)
    if late:
        process.recorder.end(measured, "ok")
    process.recorder.report(
        [
            ("cmpl-mine-0", times(ttft=0.3, e2e=1.0, queue=0.2, per_token=None, output_tokens=1)),
            ("cmpl-mine-1", times(ttft=0.1, e2e=4.0, queue=0.1, per_token=0.5, output_tokens=20)),
            ("cmpl-mine-1", times(ttft=0.2, e2e=3.0, queue=0.0, per_token=0.1, output_tokens=300)),
        ]
    )
    if not late:
        process.recorder.end(measured, "ok")

    assert process.seconds("time_to_first_token_seconds") == (1, 0.1)
    assert process.seconds("e2e_request_latency_seconds") == (1, 4.0)
    assert process.seconds("request_queue_time_seconds") == (1, 0.2)
    assert process.seconds("request_time_per_output_token_seconds") == (1, 0.5)
    assert process.seconds("output_tokens") == (1, 321)


def test_one_token_response_has_no_time_per_token() -> None:
    process = Process()
    measured = process.begin()
    process.recorder.report([("chatcmpl-mine", times(per_token=None))])
    process.recorder.end(measured, "ok")

    assert process.seconds("request_time_per_output_token_seconds")[0] == 0
    assert process.seconds("time_to_first_token_seconds")[0] == 1


@pytest.mark.parametrize("outcome", ["server_error", "stream_error", "aborted", "rejected", "excluded"])
def test_only_ok_requests_are_timed(outcome: str) -> None:
    process = Process()
    early, late = process.begin(request_id=b"early"), process.begin(request_id=b"late")
    process.recorder.report([("chatcmpl-early", times())])
    process.recorder.end(early, outcome)
    process.recorder.end(late, outcome)
    process.recorder.report([("chatcmpl-late", times())])

    assert process.seconds("e2e_request_latency_seconds")[0] == 0
    assert len(process.recorder.join) == 0


def test_abort_reported_by_engine_overrides_ok() -> None:
    process = Process()
    measured = process.begin("/v1/messages")
    process.recorder.report([("chatcmpl-mine", times(finish_reason="abort"))])
    process.recorder.end(measured, "ok")

    labels = {"revision": WHO.revision, "epoch": WHO.epoch, "outcome": "aborted"}
    assert process.registry.get_sample_value("serin_requests_total", labels) == 1
    assert process.seconds("e2e_request_latency_seconds")[0] == 0


def test_path_without_known_engine_id_uses_own_clock() -> None:
    process = Process()
    measured = process.begin("/v1/responses")
    assert measured.request_id is None
    process.clock.now += 3
    process.recorder.end(measured, "ok")

    assert process.seconds("e2e_request_latency_seconds") == (1, 3.0)
    assert process.seconds("time_to_first_token_seconds")[0] == 0


@pytest.mark.parametrize(
    ("running", "engine_id", "found"),
    [
        ([(CHAT, b"foo")], "chatcmpl-foo", 0),
        ([(CHAT, b"foo")], "chatcmpl-foo_0", None),
        ([(COMPLETIONS, b"foo")], "cmpl-foo-0", 0),
        ([(COMPLETIONS, b"foo")], "cmpl-foo-12", 0),
        ([(COMPLETIONS, b"foo")], "cmpl-foo", None),
        ([(COMPLETIONS, b"foo-0"), (COMPLETIONS, b"foo")], "cmpl-foo-0", 1),
        ([(COMPLETIONS, b"foo-0"), (COMPLETIONS, b"foo")], "cmpl-foo-0-0", 0),
        ([(CHAT, b"foo-0"), (COMPLETIONS, b"foo")], "cmpl-foo-0", 1),
        ([("/v1/audio/transcriptions", b"foo")], "transcribe-foo", 0),
        ([("/v1/audio/transcriptions", b"foo")], "transcribe-foo-1", 0),
        ([("/v1/embeddings", b"foo")], "embd-foo-0", 0),
        ([], "", None),
    ],
)
def test_engine_id_matches_exactly_one_request(
    running: list[tuple[str, bytes]], engine_id: str, found: int | None
) -> None:
    process = Process()
    begun = [process.begin(path, request_id) for path, request_id in running]

    assert process.recorder.join.find(engine_id) is (None if found is None else begun[found].tracked)


def test_ambiguous_client_id_is_replaced() -> None:
    assert Process().begin("/v1/audio/transcriptions", b"foo-1").request_id != b"foo-1"


def test_concurrent_requests_with_same_id_are_distinguished() -> None:
    process = Process()
    other = Identity("0000000000", "7")
    first, second = process.begin(), process.begin(who=other)
    assert first.request_id == b"mine"
    assert second.request_id not in {None, b"mine"}
    process.recorder.report([("chatcmpl-mine", times())])
    for measured in (first, second):
        process.recorder.end(measured, "ok")

    assert process.seconds("e2e_request_latency_seconds") == (1, 2.0)
    assert process.seconds("e2e_request_latency_seconds", other) == (0, 0.0)


def test_request_without_report_holds_its_id_for_ten_seconds() -> None:
    process = Process()
    process.recorder.end(process.begin(), "excluded")
    assert process.begin().request_id != b"mine"
    process.clock.now += 11
    again = process.begin()

    assert again.request_id == b"mine"
    assert len(process.recorder.join) == 2


def test_full_join_drops_finished_requests_first() -> None:
    process = Process(Join(max_tracked=3))
    ended = [process.begin(request_id=None) for _ in range(2)]
    for measured in ended:
        process.recorder.end(measured, "excluded")
    running = [process.begin(request_id=None) for _ in range(3)]
    too_many = process.begin(request_id=None)

    assert all(measured.tracked is not None for measured in running)
    assert too_many.tracked is None
    assert len(process.recorder.join) == 3
    process.recorder.end(too_many, "ok")
    assert process.failures() == 0


@given(st.lists(st.integers(0, 9)))
def test_join_is_empty_after_any_order_of_calls(moves: list[int]) -> None:
    process = Process(Join(max_tracked=4))
    running: list[Measured] = []
    for move in moves:
        process.clock.now += 1
        if move < 4:
            running.append(process.begin(request_id=str(move).encode()))
        elif move < 7 and running:
            process.recorder.end(running.pop(move % len(running)), "ok" if move % 2 else "excluded")
        elif move >= 7:
            process.recorder.report([(f"chatcmpl-{move - 7}", times())])
        assert len(process.recorder.join) <= 4
    for measured in running:
        process.recorder.end(measured, "ok")
    process.clock.now += 11
    process.begin(request_id=b"last")

    assert len(process.recorder.join) == 1
    assert process.recorder.metrics.pair(WHO).in_flight == 1
    assert process.failures() == 0


def test_first_twenty_requests_of_revision_are_cold() -> None:
    warmup = Warmup()

    assert [warmup.is_cold("a", 0.0) for _ in range(22)] == [True] * 20 + [False] * 2
    assert warmup.is_cold("b", 0.0)


def test_revision_is_cold_for_at_most_a_minute() -> None:
    warmup = Warmup()

    assert [warmup.is_cold("a", now) for now in (0.0, 59.9, 60.0, 30.0)] == [True, True, False, False]


def test_number_of_stored_revisions_is_bounded() -> None:
    warmup = Warmup()
    for number in range(1000):
        warmup.is_cold(str(number), 0.0)

    assert len(warmup._seen) == 64


def test_errors_of_cold_revision_are_counted() -> None:
    process = Process(warmup=Warmup())
    for outcome in ("server_error", "ok"):
        measured = process.begin()
        process.recorder.report([("chatcmpl-mine", times())])
        process.recorder.end(measured, outcome)

    labels = {"revision": WHO.revision, "epoch": WHO.epoch, "outcome": "server_error"}
    assert process.registry.get_sample_value("serin_requests_total", labels) == 1
    assert process.seconds("e2e_request_latency_seconds")[0] == 0


@pytest.mark.parametrize("outcome", ["ok", "left", "timed_out"])
@pytest.mark.parametrize(("reason", "failure"), [("error", "stream_error"), ("abort", "aborted"), ("stop", None)])
def test_failure_that_engine_reported_before_the_end_stays(outcome: str, reason: str, failure: str | None) -> None:
    process = Process()
    measured = process.begin()
    process.recorder.report([("chatcmpl-mine", times(finish_reason=reason))])
    process.recorder.end(measured, outcome)

    labels = {"revision": WHO.revision, "epoch": WHO.epoch, "outcome": failure or outcome}
    assert process.registry.get_sample_value("serin_requests_total", labels) == 1


def test_abort_that_follows_the_client_is_not_the_servers() -> None:
    process = Process()
    process.recorder.end(process.begin(), "left")
    process.recorder.report([("chatcmpl-mine", times(finish_reason="abort"))])

    labels = {"revision": WHO.revision, "epoch": WHO.epoch, "outcome": "left"}
    assert process.registry.get_sample_value("serin_requests_total", labels) == 1
    assert process.seconds("e2e_request_latency_seconds")[0] == 0
