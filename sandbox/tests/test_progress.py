"""The progress display: shares that follow the clock, and plain lines where the output is no terminal."""

from __future__ import annotations

import io
import threading

import pytest

from sandbox.host.progress import Progress, share


@pytest.mark.parametrize(("done", "total", "expected"), [(0, 100, 0), (41, 100, 41), (100, 100, 99), (5, 0, 0)])
def test_share_is_of_the_usual_time_and_at_most_99(done: float, total: float, expected: int) -> None:
    assert share(done, total) == expected


def test_every_step_is_named_with_its_share_and_usual_time() -> None:
    stream = io.StringIO()
    progress = Progress({"building etcd": 20.0, "building kubectl": 60.0}, stream=stream)
    with progress.step("building etcd"):
        pass
    with progress.step("building kubectl"):
        pass
    progress.finish("ready")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["[  0%] building etcd (about 20 s)", "[ 25%] building kubectl (about 60 s)"]
    assert lines[-1].startswith("[100%] ready (")
    assert "\r" not in stream.getvalue()


def test_long_step_prints_a_heartbeat() -> None:
    beaten = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "still building etcd" in text:
                beaten.set()
            return super().write(text)

    progress = Progress({"building etcd": 20.0}, stream=Stream(), heartbeat=0.01)
    with progress.step("building etcd"):
        assert beaten.wait(10)


def test_failed_step_is_not_shown_as_done() -> None:
    stream = io.StringIO()
    progress = Progress({"a": 1.0, "b": 1.0}, stream=stream)
    with pytest.raises(ValueError, match="no"), progress.step("a"):
        raise ValueError("no")
    assert "done" not in stream.getvalue()
