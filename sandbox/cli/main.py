"""The command line of the sandbox: `python -m sandbox up | down | status | env | load | bind | build | logs`.

Callers: the Makefile and people. Reads arguments, takes the checkout's lock, prints; a `SandboxError` becomes one
sentence and exit status 1. Not here: anything that knows how a cluster is made.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.control_plane import api_tier
from sandbox.errors import SandboxError
from sandbox.host import bounds, environment, machine
from sandbox.host.layout import ROOT, Layout, from_environment
from sandbox.host.progress import Progress
from sandbox.node import full_tier, traces

# The API tier has a directory of its own; all else belongs to the full tier.
_FULL_ENTRIES = ("bin", "env", "full", "home", "kubeconfig", "logs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        machine.require_linux()
        status: int = options.run(from_environment(), options)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(
            f"sandbox: {error.strerror or error} ({error.filename}); put that right and run the same command again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "sandbox: interrupted; run the same command again to go on, or `make down` to remove everything",
            file=sys.stderr,
        )
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A real cluster on this machine.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring the sandbox up, or put right what is not")
    up.add_argument("--tier", choices=("full", "api"), default="full")
    up.add_argument(
        "--bind", action="append", default=[], metavar="SRC:DST", help="show a directory on the node, below /opt"
    )
    up.set_defaults(run=_up)
    down = verbs.add_parser("down", help="end everything and remove every trace but the cache")
    down.add_argument("--tier", choices=("all", "full"), default="all")
    down.set_defaults(run=_down)
    verbs.add_parser("status", help="what runs and whether it is ready").set_defaults(run=_status)
    verbs.add_parser("env", help="print the shell lines that point at the sandbox").set_defaults(run=_env)
    load = verbs.add_parser("load", help="import an image archive into the node")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    load.set_defaults(run=_load)
    bind = verbs.add_parser("bind", help="show a directory on the node, below /opt")
    bind.add_argument("source", type=Path, metavar="SRC")
    bind.add_argument("target", metavar="DST")
    bind.set_defaults(run=_bind)
    build = verbs.add_parser("build", help="build everything into the cache and start nothing")
    build.add_argument("--tier", choices=("full", "api"), default="full")
    build.set_defaults(run=_build)
    logs = verbs.add_parser("logs", help="the end of a component's log; without a name, which there are")
    logs.add_argument("component", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.set_defaults(run=_logs)
    return parser


def _up(layout: Layout, options: argparse.Namespace) -> int:
    binds = dict(_bind_argument(each) for each in options.bind)
    if options.tier == "api":
        with _locked(layout):
            _up_api(layout)
        return 0
    machine.require_root(os.geteuid())
    for target, source in binds.items():
        full_tier.check_bind(Path(source), target)
    cache = Cache(layout)
    with _locked(layout):
        building = cache.missing(full_tier.BINARIES)
        progress = Progress({**building, **full_tier.STEPS})
        machine.install(machine.missing_packages(), progress.note)
        api_tier.provide(cache, full_tier.BINARIES, layout.state, progress)
        site = full_tier.Cluster(layout, cache).up(progress, binds)
        environment.link_commands(layout.bin, [cache.path("kubectl"), cache.path("helm")])
        variables = {
            "KUBECONFIG": str(layout.kubeconfig),
            "GATEWAY_URL": site.gateway_url,
            "PROMETHEUS_URL": site.prometheus_url,
            "SERIN_AUDIT_LOG": str(layout.audit_log),
            **environment.kept_here(layout, site.plan.addresses),
        }
        environment.write(layout.env_file, environment.render(variables, path_first=layout.bin))
        progress.finish(f"the sandbox is ready; use it with `. {_relative(layout.env_file)}`")
    return 0


def _up_api(layout: Layout) -> None:
    cache = Cache(layout)
    progress = Progress({**cache.missing(pins.API_TIER), "starting etcd, the API server and Prometheus": 4.0})
    handle = api_tier.load(layout.api)
    api_tier.provide(cache, pins.API_TIER, layout.state, progress)
    with progress.step("starting etcd, the API server and Prometheus"):
        if handle is None or not handle.commands or not Path(handle.commands["etcd"][0]).exists():
            handle = api_tier.start(layout.api, prometheus=True, die_with_parent=False, layout=layout)
        handle.repair()
    environment.link_commands(layout.api / "bin", [cache.path("kubectl")])
    variables = {
        "KUBECONFIG": str(handle.kubeconfig),
        "PROMETHEUS_URL": handle.prometheus_url or "",
        "SERIN_AUDIT_LOG": str(handle.audit_log),
        **environment.kept_here(layout, ()),
    }
    content = environment.render(variables, path_first=layout.api / "bin")
    environment.write(layout.api / "env", content)
    # A full sandbox keeps the well-known name; the API tier beside it has its own file.
    shown = layout.api / "env"
    if not layout.full.exists():
        environment.write(layout.env_file, content)
        shown = layout.env_file
    progress.finish(f"the API tier is ready; use it with `. {_relative(shown)}`")


def _down(layout: Layout, options: argparse.Namespace) -> int:
    # Without root nothing of a full sandbox can be ours, and what others run is none of our business.
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
            print("the full sandbox is gone, the API tier stays")
            return 0
        layout.lock.unlink(missing_ok=True)
    # Beside the checkout the directory is ours whole; elsewhere somebody may keep other things in it.
    if layout.state == ROOT / ".sandbox":
        shutil.rmtree(layout.state, ignore_errors=True)
    elif layout.state.is_dir() and not any(layout.state.iterdir()):
        layout.state.rmdir()
    print(f"the sandbox is gone; what was built stays in {layout.cache}")
    return 0


def _status(layout: Layout, _: argparse.Namespace) -> int:
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


def _env(layout: Layout, _: argparse.Namespace) -> int:
    if not layout.env_file.exists():
        raise SandboxError("No sandbox is running here; start one with `make sandbox`")
    print(layout.env_file.read_text(), end="")
    return 0


def _load(layout: Layout, options: argparse.Namespace) -> int:
    machine.require_root(os.geteuid())
    for archive in options.archives:
        if not archive.is_file():
            raise SandboxError(f"{archive} is not there; give the path of an image archive")
        for name in full_tier.Cluster(layout, Cache(layout)).load(archive):
            print(f"loaded {name}")
    return 0


def _bind(layout: Layout, options: argparse.Namespace) -> int:
    machine.require_root(os.geteuid())
    with _locked(layout):
        full_tier.Cluster(layout, Cache(layout)).bind(options.source.absolute(), options.target)
    print(f"{options.target} on the node is {options.source}")
    return 0


def _build(layout: Layout, options: argparse.Namespace) -> int:
    names = pins.API_TIER if options.tier == "api" else full_tier.BINARIES
    cache = Cache(layout)
    progress = Progress(cache.missing(names))
    api_tier.provide(cache, names, layout.state, progress)
    progress.finish(f"everything is built, in {layout.cache}")
    return 0


def _logs(layout: Layout, options: argparse.Namespace) -> int:
    folders = [layout.logs, layout.api / "logs"]
    found = {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.log"))}
    if options.component is None:
        print("\n".join(sorted(found)) or "no logs; nothing is running")
        return 0
    if options.component not in found:
        names = ", ".join(sorted(found)) or "none, nothing is running"
        raise SandboxError(f"There is no log of {options.component!r}; choose one of: {names}")
    print("\n".join(found[options.component].read_text(errors="replace").splitlines()[-options.lines :]))
    return 0


def _bind_argument(value: str) -> tuple[str, str]:
    source, colon, target = value.rpartition(":")
    if not colon or not source:
        raise SandboxError(f"--bind {value} is not of the form SRC:DST; write it like ./models:/opt/serin/models")
    return target, str(Path(source).absolute())


def _relative(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _locked(layout: Layout) -> AbstractContextManager[IO[str]]:
    """One change at a time per checkout."""
    return bounds.held(layout.lock, waiting=lambda sentence: print(sentence, flush=True))
