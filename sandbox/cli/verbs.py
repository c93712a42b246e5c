"""What each verb of the command line does; a verb returns the exit status.

Called by `main`. A verb that changes the sandbox holds the checkout's lock. Not here: arguments and how errors are
printed (`main`), and how a cluster is made (`api_tier`, `full_tier`).
"""

from __future__ import annotations

import argparse
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from sandbox.builds import pins
from sandbox.builds.cache import Cache, provide
from sandbox.control_plane import api_tier
from sandbox.errors import SandboxError
from sandbox.host import environment, locks, machine
from sandbox.host.layout import ROOT, Layout
from sandbox.host.progress import Progress
from sandbox.node import binds, full_tier, traces

# The API tier has a directory of its own; all else belongs to the full tier.
_FULL_ENTRIES = ("bin", "env", "full", "home", "kubeconfig", "logs")
_START_API = "starting etcd, the API server and Prometheus"


def up(layout: Layout, options: argparse.Namespace) -> int:
    """Start a tier, or repair it."""
    wanted = dict(_bind_argument(each) for each in options.bind)
    if options.tier == "api":
        with _locked(layout):
            _up_api(layout)
        return 0
    machine.require_root(os.geteuid())
    for target, source in wanted.items():
        binds.check(Path(source), target)
    cache = Cache(layout)
    cluster = full_tier.Cluster(layout, cache)
    with _locked(layout):
        gateway = cluster.gateway(options.gateway or None)
        names = pins.full_tier(gateway)
        progress = Progress({**cache.missing(names), **full_tier.STEPS})
        machine.install(machine.missing_packages(), progress.note)
        provide(cache, names, layout.state, progress)
        site = cluster.up(progress, wanted, gateway)
        environment.link_commands(layout.bin, [cache.path("kubectl"), cache.path("helm")])
        variables = {
            "KUBECONFIG": str(layout.kubeconfig),
            "GATEWAY": site.gateway,
            "GATEWAY_URL": site.gateway_url,
            "PROMETHEUS_URL": site.prometheus_url,
            "SERIN_AUDIT_LOG": str(layout.audit_log),
            **environment.client_variables(layout, site.plan.addresses),
        }
        environment.write(layout.env_file, environment.render(variables, path_first=layout.bin))
        progress.finish(f"the sandbox is ready; use it with `. {_relative(layout.env_file)}`")
    return 0


def _up_api(layout: Layout) -> None:
    cache = Cache(layout)
    progress = Progress({**cache.missing(pins.API_TIER), _START_API: 4.0})
    handle = api_tier.load(layout.api)
    provide(cache, pins.API_TIER, layout.state, progress)
    with progress.step(_START_API):
        if handle is None or not handle.commands or not Path(handle.commands["etcd"][0]).exists():
            handle = api_tier.start(layout.api, prometheus=True, die_with_parent=False, layout=layout)
        handle.repair()
    environment.link_commands(layout.api / "bin", [cache.path("kubectl")])
    variables = {
        "KUBECONFIG": str(handle.kubeconfig),
        "PROMETHEUS_URL": handle.prometheus_url or "",
        "SERIN_AUDIT_LOG": str(handle.audit_log),
        **environment.client_variables(layout, ()),
    }
    content = environment.render(variables, path_first=layout.api / "bin")
    environment.write(layout.api / "env", content)
    # A full sandbox keeps the well-known name; the API tier beside it has its own file.
    shown = layout.api / "env"
    if not layout.full.exists():
        environment.write(layout.env_file, content)
        shown = layout.env_file
    progress.finish(f"the API tier is ready; use it with `. {_relative(shown)}`")


def down(layout: Layout, options: argparse.Namespace) -> int:
    """End a tier and remove every trace of it but the cache."""
    # A full sandbox needs root: without root none of it can belong to this checkout.
    root = os.geteuid() == 0
    if not layout.state.exists() and not (root and traces.present(layout.full)):
        print("nothing is running and nothing is left")
        return 0
    if layout.full.exists():
        machine.require_root(os.geteuid())
    with _locked(layout):
        handle = api_tier.load(layout.api)
        if handle is not None and options.tier == "all":
            handle.stop()
        if root:
            full_tier.Cluster(layout, Cache(layout)).down()
        for name in (*_FULL_ENTRIES, *(("api",) if options.tier == "all" else ())):
            entry = layout.state / name
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
        if (layout.api / "env").exists():
            environment.write(layout.env_file, (layout.api / "env").read_text())
            print("the full sandbox is removed; the API tier still runs")
            return 0
        layout.lock.unlink(missing_ok=True)
    # Beside the checkout the directory is the sandbox's alone; elsewhere it may hold other files.
    if layout.state == ROOT / ".sandbox":
        shutil.rmtree(layout.state, ignore_errors=True)
    elif layout.state.is_dir() and not any(layout.state.iterdir()):
        layout.state.rmdir()
    print(f"the sandbox is removed; what was built stays in {layout.cache}")
    return 0


def status(layout: Layout, _: argparse.Namespace) -> int:
    """Print each component with its state; the exit status is 1 if one is not ready."""
    rows = full_tier.Cluster(layout, Cache(layout)).status()
    handle = api_tier.load(layout.api)
    if rows is None and handle is None:
        print("nothing is running; start it with `make sandbox`")
        return 1
    for name, state in rows or []:
        print(f"{name:26} {state}")
    small = {name: handle.ready(name) for name in handle.commands} if handle else {}
    for name, ready in small.items():
        print(f"{'api tier: ' + name:26} {'ready' if ready else 'not ready'}")
    if layout.env_file.exists():
        print(layout.env_file.read_text(), end="")
    return 0 if all(state == "ready" for _, state in rows or []) and all(small.values()) else 1


def env(layout: Layout, _: argparse.Namespace) -> int:
    """Print the shell lines that point at the sandbox."""
    if not layout.env_file.exists():
        raise SandboxError(
            f"There are no shell lines to print because no sandbox runs here ({layout.env_file} does not exist). "
            "Start one with `make sandbox`."
        )
    print(layout.env_file.read_text(), end="")
    return 0


def load(layout: Layout, options: argparse.Namespace) -> int:
    """Import image archives into the node."""
    machine.require_root(os.geteuid())
    for archive in options.archives:
        if not archive.is_file():
            raise SandboxError(
                f"{archive} cannot be loaded because there is no such file. Give the path of an image archive."
            )
        for name in full_tier.Cluster(layout, Cache(layout)).load(archive):
            print(f"loaded {name}")
    return 0


def bind(layout: Layout, options: argparse.Namespace) -> int:
    """Show a directory of this machine on the node."""
    machine.require_root(os.geteuid())
    with _locked(layout):
        full_tier.Cluster(layout, Cache(layout)).bind(options.source.absolute(), options.target)
    print(f"{options.target} on the node is {options.source}")
    return 0


def build(layout: Layout, options: argparse.Namespace) -> int:
    """Build everything into the cache and start nothing."""
    names = pins.API_TIER if options.tier == "api" else pins.full_tier(pins.CONTOUR)
    cache = Cache(layout)
    progress = Progress(cache.missing(names))
    provide(cache, names, layout.state, progress)
    progress.finish(f"everything is built, in {layout.cache}")
    return 0


def logs(layout: Layout, options: argparse.Namespace) -> int:
    """Print the end of a component's log, or the names of the logs."""
    folders = [layout.logs, layout.api / "logs"]
    found = {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.log"))}
    if options.component is None:
        print("\n".join(sorted(found)) or "there are no logs because nothing is running")
        return 0
    if options.component not in found:
        advice = f"Choose one of: {', '.join(sorted(found))}." if found else "Start the sandbox with `make sandbox`."
        why = "no component has this name" if found else "nothing is running"
        raise SandboxError(f"There is no log of {options.component!r} because {why}. {advice}")
    print("\n".join(found[options.component].read_text(errors="replace").splitlines()[-options.lines :]))
    return 0


def _bind_argument(value: str) -> tuple[str, str]:
    source, colon, target = value.rpartition(":")
    if not colon or not source:
        raise SandboxError(
            f"--bind {value} cannot be read because it is not of the form SRC:DST. "
            "Write it like ./models:/opt/serin/models."
        )
    return target, str(Path(source).absolute())


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _locked(layout: Layout) -> AbstractContextManager[IO[str]]:
    """One change at a time per checkout."""
    return locks.held(layout.lock, waiting=lambda sentence: print(sentence, flush=True))
