"""Processes are found and ended by their identity, not by their pid alone."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.host import processes
from sandbox.host.processes import Identity

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def test_recorded_process_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(sleeper.pid)
    assert identity is not None
    processes.end([identity], grace=5)
    assert not processes.alive(identity)


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another boot"}], ids=["pid reused", "machine restarted"])
def test_stale_record_ends_no_process(sleeper: subprocess.Popen[bytes], change: dict[str, object]) -> None:
    identity = processes.identify(sleeper.pid)
    assert identity is not None
    processes.end([replace(identity, **change)], grace=0)  # type: ignore[arg-type]
    assert processes.alive(identity)


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = processes.spawn(
        ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 1; done"],
        log=tmp_path / "log",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    assert processes.happens(ready.exists, seconds=10)
    processes.end([stubborn], grace=0.2)
    assert not processes.alive(stubborn)
    assert not Path(f"/proc/{stubborn.pid}").exists(), "the process was our child and is still a zombie"


def test_zombie_has_no_identity() -> None:
    with subprocess.Popen(["true"]) as process:
        assert processes.happens(lambda: processes.identify(process.pid) is None, seconds=10)


def test_identity_survives_json(sleeper: subprocess.Popen[bytes]) -> None:
    identity = processes.identify(sleeper.pid)
    assert identity is not None
    assert processes.from_json(identity.as_json()) == identity


@pytest.mark.parametrize(
    "value", [None, {}, {"pid": 1, "start": 1, "boot": "b"}, {"pid": "7", "start": 1, "boot": "b"}, [7]], ids=repr
)
def test_json_that_is_no_identity_reads_as_none(value: object) -> None:
    assert processes.from_json(value) is None


def test_spawned_process_writes_to_its_log_and_runs_on(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "echo.log"
    processes.spawn(["sh", "-c", "echo hello; sleep 5"], log=log, directory=tmp_path, environment=ENVIRONMENT)
    assert processes.happens(lambda: log.read_text() == "hello\n", seconds=10)


def test_wait_that_fails_raises_the_given_message() -> None:
    with pytest.raises(SandboxError, match="do this"):
        processes.wait_until(lambda: False, seconds=0, failure=lambda: "it is not there; do this")


def test_unknown_process_is_not_alive() -> None:
    assert not processes.alive(None)
    assert not processes.alive(Identity(2**22 + 1, 1, processes.boot_id()))
