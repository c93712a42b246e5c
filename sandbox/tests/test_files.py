"""The small files of the sandbox: their paths, the env file, the record of a run, pins and configuration."""

from __future__ import annotations

import json
import os
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sandbox.builds import pins
from sandbox.errors import SandboxError
from sandbox.host import environment
from sandbox.host.layout import ROOT, from_environment
from sandbox.host.processes import Identity
from sandbox.node import config_files, network, record
from sandbox.node.network import Plan
from sandbox.node.record import Record, Started

PLAN = Plan(IPv4Network("10.213.0.0/16"))


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HOME": "/home/ana"}, "/home/ana/.cache/serin"),
        ({"HOME": "/home/ana", "XDG_CACHE_HOME": "/big"}, "/big/serin"),
        ({"HOME": "/home/ana", "XDG_CACHE_HOME": "/big", "SERIN_CACHE": "/own"}, "/own"),
    ],
    ids=["home", "xdg", "serin"],
)
def test_cache_folder_follows_the_environment(variables: dict[str, str], cache: str) -> None:
    layout = from_environment(variables)
    assert str(layout.cache) == cache
    assert layout.state == ROOT / ".sandbox"


def test_state_folder_follows_the_environment() -> None:
    assert from_environment({"HOME": "/", "SERIN_SANDBOX_DIR": "/elsewhere"}).env_file == Path("/elsewhere/env")


def test_env_file_can_be_sourced_with_any_value(tmp_path: Path) -> None:
    file, folder = tmp_path / "env", tmp_path / "own bin"
    value = 'it\'s a $HOME "path"'
    environment.write(file, environment.render({"KUBECONFIG": value}, path_first=folder))
    script = '. "$1"; printf "%s\n%s" "$KUBECONFIG" "$PATH"'
    variables = {"PATH": os.environ["PATH"]}
    shown = subprocess.run(
        ["sh", "-c", script, "sh", file], env=variables, capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"{value}\n{folder}:{os.environ['PATH']}"


def test_command_links_follow_the_newest_build(tmp_path: Path) -> None:
    for build in ("old", "new"):
        (tmp_path / build).mkdir()
        (tmp_path / build / "kubectl").write_text(build)
        environment.link_commands(tmp_path / "bin", [tmp_path / build / "kubectl"])
    assert (tmp_path / "bin" / "kubectl").read_text() == "new"


def test_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = Record(PLAN, {"etcd": Started(Identity(9, 8, "boot"), "print")}, {"/opt/serin/models": "/data"}, "digest")
    saved.save(tmp_path / "state.json")
    assert record.load(tmp_path / "state.json") == saved


@pytest.mark.parametrize("content", ["", "{", "[]", '{"block": "10.213.0.0/16"}', '{"block": 7, "binds": []}'])
def test_torn_or_foreign_record_reads_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert record.load(tmp_path / "state.json") is None
    assert record.load(tmp_path / "missing.json") is None


def test_subnet_is_one_that_the_machine_does_not_route() -> None:
    assert network.choose([]).block == IPv4Network("10.213.0.0/16")
    assert network.choose([IPv4Network("10.213.7.0/24")]).block == IPv4Network("10.214.0.0/16")
    with pytest.raises(SandboxError, match="ip route"):
        network.choose([IPv4Network("10.0.0.0/8")])


def test_cable_pods_and_services_do_not_overlap() -> None:
    subnets = [PLAN.link, PLAN.pods, PLAN.services]
    assert not any(one.overlaps(two) for one in subnets for two in subnets if one is not two)
    assert PLAN.host in PLAN.link
    assert PLAN.node in PLAN.link
    assert PLAN.host != PLAN.node


def test_every_binary_is_pinned_with_checksums() -> None:
    for binary in pins.BINARIES:
        module = (binary.folder / "go.mod").read_text()
        if binary.package != ".":
            assert f"\t{binary.package}\n" in module or f"tool {binary.package}\n" in module, binary.name
            assert (binary.folder / "go.sum").stat().st_size > 0, binary.name
    for requirements in pins.FOLDER.glob("requirements-*.txt"):
        assert "--hash=sha256:" in requirements.read_text()


def test_kubernetes_reports_the_version_that_is_pinned() -> None:
    flags = pins.linker_flags(pins.binaries(["kubectl"])[0])
    assert f"gitVersion={pins.version('kubernetes', 'k8s.io/kubernetes')}" in flags
    assert "gitVersion" not in pins.linker_flags(pins.binaries(["helm"])[0])


def test_every_staging_module_has_the_version_of_kubernetes() -> None:
    module = (pins.FOLDER / "tools" / "kubernetes" / "go.mod").read_text()
    staging = pins.version("kubernetes", "k8s.io/kubernetes").replace("v1.", "v0.")
    replaced = [line for line in module.splitlines() if "=>" in line]
    assert len(replaced) > 25
    assert all(line.endswith(f" {staging}") for line in replaced)


def test_node_is_configured_for_a_small_machine() -> None:
    kubelet = json.loads(config_files.kubelet(PLAN, Path("/certificates")))
    assert (kubelet["failSwapOn"], kubelet["failCgroupV1"], kubelet["enforceNodeAllocatable"]) == (False, False, [])
    assert "restrict_oom_score_adj = true" in config_files.containerd(Path("/bin"), Path("/cni"))
    assert json.loads(config_files.cni(PLAN))["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.213.64.0/24"}]]
