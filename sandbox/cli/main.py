"""The command line of the sandbox: `python -m sandbox up | down | status | env | load | bind | build | logs`.

Callers: the Makefile and people. Reads arguments; a `SandboxError` becomes one line on standard error and status 1.
Not here: what a verb does (`verbs`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sandbox.builds import pins
from sandbox.cli import verbs
from sandbox.errors import SandboxError
from sandbox.host import machine
from sandbox.host.layout import from_environment


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
        # The reader of our output has ended; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(
            f"sandbox: {error.filename or 'the system'}: {error.strerror or error}. "
            "Correct that, then run the same command again.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(
            "sandbox: Interrupted. To continue, run the same command again; to remove everything, run `make down`.",
            file=sys.stderr,
        )
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A real cluster on this machine.")
    commands = parser.add_subparsers(required=True, metavar="VERB")
    up = commands.add_parser("up", help="start the sandbox, or repair it")
    up.add_argument("--tier", choices=("full", "api"), default="full")
    up.add_argument(
        "--gateway",
        default=os.environ.get("GATEWAY"),
        metavar="NAME",
        help=f"{' or '.join(pins.GATEWAYS)}; default: $GATEWAY, else as it runs, else {pins.CONTOUR}",
    )
    up.add_argument(
        "--bind", action="append", default=[], metavar="SRC:DST", help="show a directory on the node, below /opt"
    )
    up.set_defaults(run=verbs.up)
    down = commands.add_parser("down", help="end everything and remove every trace but the cache")
    down.add_argument("--tier", choices=("all", "full"), default="all")
    down.set_defaults(run=verbs.down)
    commands.add_parser("status", help="what runs and whether it is ready").set_defaults(run=verbs.status)
    commands.add_parser("env", help="print the shell lines that point at the sandbox").set_defaults(run=verbs.env)
    load = commands.add_parser("load", help="import an image archive into the node")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    load.set_defaults(run=verbs.load)
    bind = commands.add_parser("bind", help="show a directory on the node, below /opt")
    bind.add_argument("source", type=Path, metavar="SRC")
    bind.add_argument("target", metavar="DST")
    bind.set_defaults(run=verbs.bind)
    build = commands.add_parser("build", help="build everything into the cache and start nothing")
    build.add_argument("--tier", choices=("full", "api"), default="full")
    build.set_defaults(run=verbs.build)
    logs = commands.add_parser("logs", help="the end of a component's log; without a name, the list of logs")
    logs.add_argument("component", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=50)
    logs.set_defaults(run=verbs.logs)
    return parser
