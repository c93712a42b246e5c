"""What is wrong with the machine ends a verb with one line that says what to do, status 1 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.builds import failures
from sandbox.cli import main as command_line
from sandbox.errors import SandboxError
from sandbox.host import machine
from sandbox.host.machine import COLD_BYTES, GIGABYTE
from sandbox.host.processes import Identity
from sandbox.node import binds, namespaces, traces
from sandbox.node.namespaces import Init

ROOT = Path(__file__).resolve().parents[2]


def test_system_other_than_linux_is_refused_with_advice() -> None:
    with pytest.raises(SandboxError, match="Linux virtual machine"):
        machine.require_linux("darwin")


def test_refusal_of_other_users_names_the_tier_without_root() -> None:
    with pytest.raises(SandboxError, match="TIER=api"):
        machine.require_root(1000)


def test_full_disk_is_refused_before_a_build(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"has 1\.0 GB free and 8 GB are needed"):
        machine.require_space(tmp_path / "not" / "there" / "yet", COLD_BYTES, free=lambda _: GIGABYTE)
    machine.require_space(tmp_path, COLD_BYTES, free=lambda _: COLD_BYTES)


def test_only_missing_packages_are_named() -> None:
    assert machine.missing_packages(lambda command: None if command in ("runc", "nft") else "/usr/bin/x") == [
        "nftables",
        "runc",
    ]
    assert machine.missing_packages(lambda _: "/usr/bin/x") == []


def test_nothing_is_installed_when_nothing_is_missing() -> None:
    def note(sentence: str) -> None:
        pytest.fail(f"a notice for nothing: {sentence}")

    machine.install([], note)


@pytest.mark.parametrize(
    ("output", "sign"),
    [
        ("dial tcp: lookup example: no such host", "Connect the machine to the network"),
        ("write /x: no space left on device", "Free 8 GB"),
        ("main.go:3: undefined: x", "if that does not help, remove the cache"),
        ("", "if that does not help, remove the cache"),
    ],
    ids=["no network", "disk full", "compiler error", "silence"],
)
def test_message_of_a_failed_build_is_one_line_with_advice(output: str, sign: str) -> None:
    sentence = failures.explain("building etcd", output)
    assert sign in sentence
    assert "\n" not in sentence


def test_only_directories_below_opt_can_be_bound(tmp_path: Path) -> None:
    binds.check(tmp_path, "/opt/serin/models")
    for target in ("/opt", "/etc/serin", "/opt/../etc"):
        with pytest.raises(SandboxError, match="/opt/serin"):
            binds.check(tmp_path, target)
    with pytest.raises(SandboxError, match="Create it"):
        binds.check(tmp_path / "missing", "/opt/serin/models")


def test_second_full_sandbox_is_refused_and_names_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Init(Identity(77, 1, "boot"), tmp_path / "other")
    other.state.mkdir()
    monkeypatch.setattr(namespaces, "find_all", lambda: [other])
    traces.refuse_others(other.state)
    with pytest.raises(SandboxError, match="Run `make down` there"):
        traces.refuse_others(tmp_path / "mine")


def test_sandbox_whose_checkout_is_gone_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = Init(Identity(77, 1, "boot"), tmp_path / "gone")
    ended: list[Init] = []
    monkeypatch.setattr(namespaces, "find_all", lambda: [orphan])
    monkeypatch.setattr(namespaces, "destroy", ended.append)
    traces.refuse_others(tmp_path / "mine")
    assert ended == [orphan]


def run(*arguments: str, state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "SERIN_SANDBOX_DIR": str(state), **environment}
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [("env",), ("logs", "etcd"), ("up", "--bind", "nonsense"), ("load", "missing.tar")],
    ids=["env of nothing", "logs of nothing", "malformed bind", "missing archive"],
)
def test_error_is_one_line_and_status_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, state=tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: ")
    assert done.stderr.count("\n") == 1


def test_build_without_network_fails_with_one_line(tmp_path: Path) -> None:
    environment = {"SERIN_CACHE": str(tmp_path / "cache"), "GOMODCACHE": str(tmp_path / "modules")}
    # Nothing listens on port 9 of loopback.
    proxies = {"GOPROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    done = run("build", "--tier", "api", state=tmp_path / "state", **environment, **proxies)
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: ")
    assert done.stderr.count("\n") == 1
    assert not [entry for entry in (tmp_path / "cache" / "bin").iterdir() if not entry.name.startswith(".")]


def test_interruption_says_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "require_linux", interrupt)
    assert command_line.main(["status"]) == 130
    assert "run the same command again" in capsys.readouterr().err
