"""The full tier: a whole single-node cluster inside its own namespaces, brought up, repaired and removed.

`Cluster.up` is level-triggered: it starts what is missing, restarts what ended, changed or hangs, and leaves the rest
alone. When process 1 of the namespaces has ended (killed, or the machine restarted), the cluster has, too, and `up`
makes a new, empty one. Callers: the verbs. Not here: the components (`components`) and starting each (`keeper`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.control_plane import credentials
from sandbox.errors import SandboxError
from sandbox.host import environment
from sandbox.host.layout import Layout
from sandbox.host.progress import Progress
from sandbox.node import binds, cgroups, gateway_api, keeper, namespaces, network, record, traces
from sandbox.node.components import all_components
from sandbox.node.image_store import NodeImages
from sandbox.node.keeper import Keeper
from sandbox.node.namespaces import Init
from sandbox.node.record import Record
from sandbox.node.site import Site

STEPS = {
    "preparing the node": 1.0,
    "starting etcd and containerd": 1.5,
    "starting the API server": 3.0,
    "starting the node and Prometheus": 1.0,
    "importing images": 1.0,
    "installing the Gateway API": 4.0,
    "waiting until everything is ready": 4.0,
}
_NODE = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "prometheus")
_SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


class Cluster:
    """The full sandbox of one checkout."""

    def __init__(self, layout: Layout, cache: Cache) -> None:
        self._layout = layout
        self._cache = cache
        self._file = layout.full / "state.json"

    def gateway(self, wanted: str | None) -> str:
        """Return the gateway that `up` is to run: `wanted`, else that of the cluster that runs, else Contour.

        Raises:
            SandboxError: there is no such gateway, or the cluster runs with another one, whose definitions remain.
        """
        if wanted is not None and wanted not in pins.GATEWAYS:
            raise SandboxError(
                f"There is no gateway {wanted!r}. Set GATEWAY or --gateway to one of: {', '.join(pins.GATEWAYS)}."
            )
        memory = record.load(self._file) if self._init() is not None else None
        if memory is None:
            return wanted or pins.CONTOUR
        if wanted not in (None, memory.gateway):
            raise SandboxError(
                f"The gateway cannot become {wanted} because the sandbox runs with {memory.gateway}. "
                "Run `make down`, then the same command again."
            )
        return memory.gateway

    def up(self, progress: Progress, wanted_binds: Mapping[str, str], gateway: str = pins.CONTOUR) -> Site:
        """Start everything, or repair it, and return the addresses and files of the cluster."""
        with progress.step("preparing the node"):
            init, memory = self._prepare(wanted_binds, gateway)
        site, images = self._site(memory), NodeImages(init, self._cache)
        keep = Keeper(self._layout, init, memory, self._file, all_components(site, images.ready))
        with progress.step("starting etcd and containerd"):
            keep.start("etcd", "containerd")
            keep.wait("etcd")
        with progress.step("starting the API server"):
            keep.start("kube-apiserver")
            keep.wait("kube-apiserver", "containerd")
        with progress.step("starting the node and Prometheus"):
            keep.start(*_NODE)
        with progress.step("importing images"):
            memory.images = images.load_own(self._layout, memory.images)
            memory.save(self._file)
        with progress.step("installing the Gateway API"):
            memory.definitions = gateway_api.install(site, memory.definitions)
            memory.save(self._file)
            if memory.gateway == pins.CONTOUR:
                gateway_api.write_envoy_bootstrap(site)
            keep.start(*pins.GATEWAYS[memory.gateway])
        with progress.step("waiting until everything is ready"):
            keep.wait(*keep.components)
        return site

    def down(self) -> None:
        """End everything and remove every trace."""
        for init in namespaces.find_all():
            if init.state == self._layout.full:
                namespaces.destroy(init)
        traces.remove_leftovers()
        shutil.rmtree(self._layout.full, ignore_errors=True)

    def status(self) -> list[tuple[str, str]] | None:
        """Return each component with `ready`, `not ready` or `ended`; None when there is no sandbox."""
        init, memory = self._init(), record.load(self._file)
        if init is None or memory is None:
            return None
        site = self._site(memory)
        return keeper.states(all_components(site, NodeImages(init, self._cache).ready), memory)

    def load(self, archive: Path) -> list[str]:
        """Import a docker-archive or OCI tar into the node and return the image names in it."""
        init, _ = self._running()
        return NodeImages(init, self._cache).load(archive)

    def bind(self, source: Path, target: str) -> None:
        """Make a directory of this machine visible on the node, below /opt."""
        init, memory = self._running()
        binds.mount(init, memory.binds, {target: str(source)})
        memory.save(self._file)

    def _site(self, memory: Record) -> Site:
        return Site(self._layout, self._cache, memory.plan, memory.gateway)

    def _init(self) -> Init | None:
        return next((init for init in namespaces.find_all() if init.state == self._layout.full), None)

    def _running(self) -> tuple[Init, Record]:
        init, memory = self._init(), record.load(self._file)
        if init is None or memory is None:
            raise SandboxError(
                "The node cannot be reached because no full sandbox runs here. Start one with `make sandbox`."
            )
        return init, memory

    def _prepare(self, wanted: Mapping[str, str], gateway: str) -> tuple[Init, Record]:
        traces.refuse_others(self._layout.full)
        init, memory = self._init(), record.load(self._file)
        if init is not None and memory is None:
            namespaces.destroy(init)
            init = None
        if init is None or memory is None:
            init, memory = self._begin(memory, gateway)
        elif not network.connected(memory.plan):
            network.connect(memory.plan, init.identity.pid)
        cgroups.make()
        binds.mount(init, memory.binds, {**memory.binds, **wanted})
        memory.save(self._file)
        return init, memory

    def _begin(self, previous: Record | None, gateway: str) -> tuple[Init, Record]:
        """Make a new node: without its processes, nothing of an earlier cluster can be used."""
        layout = self._layout
        traces.remove_leftovers()
        shutil.rmtree(layout.full, ignore_errors=True)
        for folder in (layout.full, layout.logs, layout.bin):
            folder.mkdir(parents=True, exist_ok=True)
        (layout.full / "etcd").mkdir(mode=0o700)
        for log in layout.logs.glob("*.log*"):
            log.unlink()
        plan = network.choose(network.routed_networks())
        memory = Record(plan, binds=dict(previous.binds) if previous else {}, gateway=gateway)
        init = namespaces.create(self._cache.path("pause"), layout.full)
        network.connect(memory.plan, init.identity.pid)
        environment.link_commands(layout.node_bin, [self._cache.path(name) for name in pins.NODE_PROGRAMS])
        self._write_credentials(self._site(memory))
        memory.save(self._file)
        return init, memory

    def _write_credentials(self, site: Site) -> None:
        folder, plan = self._layout.certificates, site.plan
        hosts = [str(plan.node), str(plan.services[1]), "localhost", *_SERVICE_NAMES]
        tool = self._cache.path("certificates")
        credentials.make_certificates(tool, folder, hosts=hosts, clients=credentials.NODE_CLIENTS)
        for client in credentials.NODE_CLIENTS:
            path = self._layout.kubeconfig if client == "admin" else site.kubeconfig(client)
            credentials.write_kubeconfig(path, url=site.api_url, certificates=folder, client=client)
