"""The child process: what it judges, and that no answer or check can hold it up or end it for good."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from model_server.serin_model_server.checks import process as processes
from model_server.serin_model_server.checks.answer import FINISHED, Choice
from model_server.serin_model_server.checks.process import CheckProcess, Job

REDOS = {"pattern": "^(a+)+$"}
"""As a keyword of a schema it takes hours for the answer below."""
SLOW_ANSWER = json.dumps("a" * 40 + "b")


def task(kind: str, **parameters: Any) -> str:
    return json.dumps([kind, parameters])


EMPTY, REPETITION = task("Empty"), task("Repetition")
SCHEMA = task("Schema", outputSchema={"type": "string"})
SLOW = task("Schema", outputSchema=REDOS)


class Asked(CheckProcess):
    """A process whose results a test waits for."""

    def ask(self, *tasks: str, texts: Sequence[str] = ('"a"',)) -> list[str]:
        answered = threading.Event()
        results: list[str] = []

        def done(found: Sequence[str]) -> None:
            results.extend(found)
            answered.set()

        assert self.submit(
            Job(tasks, tuple(Choice(text, len(text), called=False, finish=FINISHED) for text in texts), done)
        )
        assert answered.wait(60)
        return results

    @property
    def child(self) -> int | None:
        return self._child._process.pid if self._child else None

    def end(self) -> None:
        self._end_child()


@pytest.fixture
def checks() -> Iterator[Asked]:
    made = Asked(rest=60)
    yield made
    made.end()


def test_child_answers_in_the_order_of_the_tasks(checks: Asked) -> None:
    assert checks.ask(SCHEMA, EMPTY, REPETITION, texts=["5"]) == ["fail", "pass", "pass"]
    assert checks.ask(SCHEMA, texts=['"a"', "5"]) == ["fail"]
    assert checks.ask(task("Regex", pattern="[é☃]"), texts=["un été", "\U0001f600☃"]) == ["pass"]
    assert checks.starts == 1


def test_check_beyond_its_time_is_skipped_and_the_others_are_judged(checks: Asked) -> None:
    assert checks.ask(EMPTY, SLOW, SCHEMA, texts=[SLOW_ANSWER]) == ["pass", "skipped", "pass"]
    assert checks.starts == 2
    # It rests, so that it does not end the child again and again.
    assert checks.ask(SLOW, SCHEMA, texts=[SLOW_ANSWER]) == ["skipped", "pass"]
    assert checks.starts == 2


def test_check_that_has_rested_is_tried_again() -> None:
    checks = Asked(rest=0.0)
    assert checks.ask(SLOW, texts=[SLOW_ANSWER]) == ["skipped"]
    assert checks.ask(SLOW, texts=['"aaa"']) == ["pass"]
    checks.end()


def test_child_that_hangs_is_killed_by_the_clock() -> None:
    checks = Asked(seconds=0.3, rest=0.0)
    assert checks.ask(EMPTY) == ["pass"]
    stopped = checks.child
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    assert checks.ask(EMPTY) == ["skipped"]
    assert checks.ask(EMPTY) == ["pass"]
    assert checks.child not in {None, stopped}
    checks.end()


def test_child_that_was_killed_is_started_again(checks: Asked) -> None:
    assert checks.ask(EMPTY) == ["pass"]
    first = checks.child
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert checks.ask(EMPTY, SCHEMA) in (["skipped", "pass"], ["pass", "pass"])
    assert checks.child not in {None, first}


@pytest.mark.parametrize(
    ("name", "of", "text", "result"),
    [
        ("deep answer", SCHEMA, "[" * 100_000 + "]" * 100_000, "skipped"),
        ("endless reference", task("Schema", outputSchema={"$ref": "#"}), "1", "skipped"),
        ("not an answer in JSON", SCHEMA, "[" * 100, "fail"),
        ("remote reference", task("Schema", outputSchema={"$ref": "http://127.0.0.1:9/s"}), "1", "skipped"),
        ("no schema", task("Schema", outputSchema=None), "1", "skipped"),
        ("pattern that is not valid", task("Regex", pattern="("), "1", "skipped"),
        ("pattern that backtracks", task("Regex", pattern="(a|aa)+$"), "a" * 5000 + "b", "skipped"),
        ("unknown kind", task("Other"), "1", "skipped"),
        ("task that is not JSON", "{", "1", "skipped"),
        ("long answer", SCHEMA, '"' + "a" * 262_142 + '"', "pass"),
        ("half of a pair", SCHEMA, '"\ud800"', "pass"),
        ("huge number", SCHEMA, "1" * 262_144, "fail"),
    ],
)
def test_hostile_answer_or_check_ends_nothing(checks: Asked, name: str, of: str, text: str, result: str) -> None:
    found = checks.ask(of, EMPTY, texts=[text])
    assert found == [result, "pass"], name
    assert checks.starts == 1


def test_remote_schema_is_never_fetched(checks: Asked) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        where = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        nested = {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$id": where, "$ref": where}}}
        assert checks.ask(task("Schema", outputSchema=nested), texts=['{"a": 1}']) == ["skipped"]
        with pytest.raises(TimeoutError):
            server.accept()


def test_full_queue_refuses_at_once() -> None:
    checks = Asked(waiting=2, rest=60)
    hold = threading.Event()
    results: list[str] = []

    def block(_results: Sequence[str]) -> None:
        hold.wait(60)

    choice = (Choice("a", 1, called=False, finish=FINISHED),)
    assert checks.submit(Job((EMPTY,), choice, block))
    deadline = time.monotonic() + 60
    while not checks._queue.empty() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [checks.submit(Job((EMPTY,), choice, results.extend)) for _ in range(3)] == [True, True, False]
    hold.set()
    while len(results) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert checks.ask(SCHEMA) == ["pass"]
    assert results == ["pass", "pass"]
    checks.end()


def test_child_without_work_is_ended() -> None:
    checks = Asked(idle=0.05)
    assert checks.ask(EMPTY) == ["pass"]
    deadline = time.monotonic() + 60
    while checks.child is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert checks.child is None
    assert checks.ask(EMPTY) == ["pass"]
    assert checks.starts == 2
    checks.end()


def test_child_ends_with_its_parent(checks: Asked) -> None:
    checks.ask(EMPTY)
    child = checks._child
    assert child is not None
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert child._process.wait(30) == 0


def test_process_that_does_not_start_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", "raise SystemExit(1)")
    checks = Asked(rest=60)
    assert checks.ask(EMPTY, SCHEMA) == ["skipped", "skipped"]
    assert checks.ask(EMPTY) == ["skipped"]
    assert checks.starts == 1


def test_child_loads_nothing_of_the_middleware(checks: Asked) -> None:
    checks.ask(EMPTY)
    with open(f"/proc/{checks.child}/environ", "rb") as file:  # noqa: PTH123
        assert b"PROMETHEUS_MULTIPROC_DIR" not in file.read()
    with open(f"/proc/{checks.child}/status") as file:  # noqa: PTH123
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    assert resident < 80 * 1024
