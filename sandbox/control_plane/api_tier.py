"""The API tier: etcd and the API server, with Prometheus if wanted, as plain processes on loopback, without root.

Integration tests start one with `start(directory)` and stop it by its handle; `make sandbox TIER=api` starts one that
stays. It takes free ports, so any number can run beside each other and beside a full sandbox.
Not here: controllers. Nothing collects garbage, finishes namespaces, or turns a Deployment into pods in this tier.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

from sandbox.builds import pins
from sandbox.builds.cache import Cache, provide
from sandbox.control_plane import credentials, programs
from sandbox.errors import SandboxError
from sandbox.host import log_tail, probe, processes
from sandbox.host.layout import Layout, from_environment
from sandbox.host.machine import require_linux, search_path
from sandbox.host.ports import LOOPBACK, free_port
from sandbox.host.processes import Identity
from sandbox.host.progress import Progress

PROMETHEUS_CONFIG = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_configs: []\n"
_SERVICES = "10.96.0.0/16"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
# Another process may take a free port between its choice and its use.
_ATTEMPTS = 3


@dataclass
class Handle:
    """A running API tier. Also a context manager that stops it."""

    directory: Path
    kubeconfig: Path
    url: str
    prometheus_url: str | None
    prometheus_config: Path | None
    audit_log: Path
    commands: Mapping[str, list[str]]
    die_with_parent: bool
    running: dict[str, Identity] = field(default_factory=dict)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def alive(self, name: str) -> bool:
        """Whether the component (`etcd`, `kube-apiserver`, `prometheus`) runs."""
        return processes.alive(self.running.get(name))

    def ready(self, name: str) -> bool:
        """Whether the component runs and answers that it is ready."""
        if not self.alive(name):
            return False
        if name == "etcd":
            return probe.get(f"{self._option(name, '--listen-client-urls')}/readyz") is not None
        if name == "kube-apiserver":
            return (
                probe.get(f"{self.url}/readyz", credentials.client_context(self.directory / "certificates")) is not None
            )
        return probe.get(f"{self.prometheus_url}/-/ready") is not None

    def kill(self, name: str) -> None:
        """End one component at once, as a crash would."""
        identity = self.running.pop(name, None)
        if identity is not None:
            processes.end([identity], grace=0.0)
        self._record()

    def restart(self, name: str) -> None:
        """End one component and start it again, with its data and on its port; returns when it is ready."""
        self.kill(name)
        self.run(name)
        self.wait(name)

    def run(self, name: str) -> None:
        """Start a component that does not run."""
        if self.alive(name):
            return
        self.running[name] = processes.spawn(
            self.commands[name],
            log=self.log(name),
            directory=self.directory,
            environment={"PATH": search_path(), "HOME": str(self.directory)},
            die_with_parent=self.die_with_parent,
        )
        self._record()

    def repair(self) -> None:
        """Start what has ended and restart what does not answer."""
        for name in self.commands:
            if not self.alive(name):
                self.run(name)
                self.wait(name)
            elif not processes.happens(partial(self.ready, name), seconds=_ANSWER_SECONDS):
                self.restart(name)

    def wait(self, name: str) -> None:
        """Wait until the component is ready.

        Raises:
            SandboxError: it ended, or was not ready in time.
        """

        def settled() -> bool:
            return not self.alive(name) or self.ready(name)

        processes.wait_until(settled, seconds=_START_SECONDS, failure=lambda: self._failure(name))
        if not self.alive(name):
            raise SandboxError(self._failure(name))

    def reload_prometheus(self) -> None:
        """Make Prometheus read `prometheus_config` again."""
        url = f"{self.prometheus_url}/-/reload"
        # A reload waits for scrapes that have begun.
        if self.prometheus_url is None or probe.get(url, method="POST", seconds=30.0) is None:
            raise SandboxError(
                f"Prometheus did not reload {self.prometheus_config}: it refused the file or did not answer. "
                f"Read {self.log('prometheus')}, correct what it says, and reload again."
            )

    def log(self, name: str) -> Path:
        """Return the log file of a component."""
        return self.directory / "logs" / f"{name}.log"

    def stop(self) -> None:
        """End every process and remove the directory; may be called twice."""
        for name in ("prometheus", "kube-apiserver", "etcd"):
            identity = self.running.pop(name, None)
            if identity is not None:
                processes.end([identity], grace=1.0)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _option(self, name: str, option: str) -> str:
        return next(part.partition("=")[2] for part in self.commands[name] if part.startswith(option + "="))

    def _failure(self, name: str) -> str:
        log = self.log(name)
        return f"{name} did not become ready ({log_tail.last_line(log)}). Read {log}, then start it again."

    def _record(self) -> None:
        content = {
            "running": {name: identity.as_json() for name, identity in self.running.items()},
            "commands": dict(self.commands),
            "url": self.url,
            "prometheus_url": self.prometheus_url,
        }
        unfinished = self.directory / "state.json.part"
        unfinished.write_text(json.dumps(content))
        unfinished.replace(self.directory / "state.json")


def start(
    directory: Path,
    *,
    prometheus: bool = False,
    die_with_parent: bool = True,
    progress: Progress | None = None,
    layout: Layout | None = None,
) -> Handle:
    """Start a new API tier in `directory` (emptied first) and return when it answers.

    Builds what is missing, which takes minutes on the first run and nothing afterwards. With `die_with_parent` the
    processes end with the calling thread even if `stop` is never reached.
    """
    require_linux()
    names = [name for name in pins.API_TIER if prometheus or name != "prometheus"]
    cache = Cache(layout or from_environment())
    provide(cache, names, directory, progress)
    previous = load(directory)
    if previous is not None:
        previous.stop()
    shutil.rmtree(directory, ignore_errors=True)
    for attempt in range(_ATTEMPTS):
        handle = _prepare(cache, directory, prometheus=prometheus, die_with_parent=die_with_parent)
        try:
            for name in handle.commands:
                handle.run(name)
                if name != "prometheus":
                    handle.wait(name)
            for name in handle.commands:
                handle.wait(name)
        except BaseException:
            taken = any("address already in use" in log_tail.last_lines(handle.log(name)) for name in handle.commands)
            if taken and attempt + 1 < _ATTEMPTS:
                handle.stop()
                continue
            processes.end(handle.running.values(), grace=0.0)
            raise
        return handle
    raise SandboxError(
        "The API tier cannot start because other processes took its ports three times. "
        "Look at them with `ss -ltnp`, then start it again."
    )


def load(directory: Path) -> Handle | None:
    """Return the handle of an API tier that an earlier process started in `directory`, running or not."""
    try:
        content = json.loads((directory / "state.json").read_text())
        found = {name: processes.from_json(value) for name, value in content["running"].items()}
        return Handle(
            directory=directory,
            kubeconfig=directory / "kubeconfig",
            url=content["url"],
            prometheus_url=content["prometheus_url"],
            prometheus_config=directory / "prometheus.yaml" if content["prometheus_url"] else None,
            audit_log=directory / "logs" / "audit.log",
            commands=content["commands"],
            die_with_parent=False,
            running={name: identity for name, identity in found.items() if identity is not None},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _prepare(cache: Cache, directory: Path, *, prometheus: bool, die_with_parent: bool) -> Handle:
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    client, peer, secure, scraper = (free_port() for _ in range(4))
    certificates, policy, config = (
        directory / "certificates",
        directory / "audit-policy.yaml",
        directory / "prometheus.yaml",
    )
    hosts = [LOOPBACK, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    credentials.make_certificates(
        cache.path("certificates"), certificates, hosts=hosts, clients=credentials.API_CLIENTS
    )
    url, audit_log = f"https://{LOOPBACK}:{secure}", directory / "logs" / "audit.log"
    policy.write_text(programs.AUDIT_POLICY)
    etcd_url = f"http://{LOOPBACK}:{client}"
    commands = {
        "etcd": programs.etcd(
            cache.path("etcd"), data=directory / "etcd", client_url=etcd_url, peer_url=f"http://{LOOPBACK}:{peer}"
        ),
        "kube-apiserver": programs.api_server(
            cache.path("kube-apiserver"),
            etcd_url=etcd_url,
            address=LOOPBACK,
            port=secure,
            certificates=certificates,
            services=_SERVICES,
            audit_log=audit_log,
            audit_policy=policy,
            # An Endpoints object may not hold a loopback address, and nothing in this tier would use it.
            extra=["--endpoint-reconciler-type=none"],
        ),
    }
    if prometheus:
        config.write_text(PROMETHEUS_CONFIG)
        commands["prometheus"] = programs.prometheus(
            cache.path("prometheus"), config=config, data=directory / "prometheus", listen=f"{LOOPBACK}:{scraper}"
        )
    kubeconfig = directory / "kubeconfig"
    credentials.write_kubeconfig(kubeconfig, url=url, certificates=certificates, client="admin")
    return Handle(
        directory=directory,
        kubeconfig=kubeconfig,
        url=url,
        prometheus_url=f"http://{LOOPBACK}:{scraper}" if prometheus else None,
        prometheus_config=config if prometheus else None,
        audit_log=audit_log,
        commands=commands,
        die_with_parent=die_with_parent,
    )
