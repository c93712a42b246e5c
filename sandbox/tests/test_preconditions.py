"""What is wrong with the machine is said in one sentence that says what to do, with status 1 and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.builds import cache
from sandbox.cli import main as command_line
from sandbox.errors import SandboxError
from sandbox.host import machine
from sandbox.host.machine import COLD_BYTES, GIGABYTE
from sandbox.host.processes import Identity
from sandbox.node import namespaces, traces
from sandbox.node.full_tier import check_bind
from sandbox.node.namespaces import Init

ROOT = Path(__file__).resolve().parents[2]


def test_another_system_than_linux_is_told_what_to_use() -> None:
    with pytest.raises(SandboxError, match="Linux virtual machine"):
        machine.require_linux("darwin")


def test_a_user_other_than_root_is_told_about_the_tier_that_needs_none() -> None:
    with pytest.raises(SandboxError, match="TIER=api"):
        machine.require_root(1000)


def test_a_full_disk_is_noticed_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"has 1\.0 GB free and 8 GB are needed"):
        machine.require_space(tmp_path / "not" / "there" / "yet", COLD_BYTES, free=lambda _: GIGABYTE)
    machine.require_space(tmp_path, COLD_BYTES, free=lambda _: COLD_BYTES)


def test_only_packages_that_are_missing_are_named() -> None:
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
        ("dial tcp: lookup example: no such host", "connect the machine to the network"),
        ("write /x: no space left on device", "free 8 GB"),
        ("main.go:3: undefined: x", "remove the cache if that does not help"),
        ("", "remove the cache if that does not help"),
    ],
    ids=["no network", "disk full", "compiler error", "silence"],
)
def test_a_failed_build_is_one_sentence_that_says_what_to_do(output: str, sign: str) -> None:
    sentence = cache.explain("building etcd", output)
    assert sign in sentence
    assert "\n" not in sentence


def test_only_directories_below_opt_can_be_bound(tmp_path: Path) -> None:
    check_bind(tmp_path, "/opt/serin/models")
    for target in ("/opt", "/etc/serin", "/opt/../etc"):
        with pytest.raises(SandboxError, match="/opt/serin"):
            check_bind(tmp_path, target)
    with pytest.raises(SandboxError, match="create it"):
        check_bind(tmp_path / "missing", "/opt/serin/models")


def test_a_second_full_sandbox_is_refused_by_naming_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Init(Identity(77, 1, "boot"), tmp_path / "other")
    other.state.mkdir()
    monkeypatch.setattr(namespaces, "find_all", lambda: [other])
    traces.refuse_others(other.state)
    with pytest.raises(SandboxError, match="run `make down` there"):
        traces.refuse_others(tmp_path / "mine")


def test_a_sandbox_whose_checkout_is_gone_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_error_is_one_line_and_status_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, state=tmp_path / "state")
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: ")
    assert done.stderr.count("\n") == 1


def test_a_build_without_network_is_one_sentence(tmp_path: Path) -> None:
    environment = {"SERIN_CACHE": str(tmp_path / "cache"), "GOMODCACHE": str(tmp_path / "modules")}
    # Port 9 of loopback: nobody listens there.
    proxies = {"GOPROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    done = run("build", "--tier", "api", state=tmp_path / "state", **environment, **proxies)
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: ")
    assert done.stderr.count("\n") == 1
    assert not [entry for entry in (tmp_path / "cache" / "bin").iterdir() if not entry.name.startswith(".")]


def test_interrupting_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "require_linux", interrupt)
    assert command_line.main(["status"]) == 130
    assert "run the same command again" in capsys.readouterr().err
