"""`python -m serin`: the operator process and the subcommands of `serin`.

Every command imports what it needs when it runs, so that work on files needs neither kopf nor the client of Kubernetes.
Exit status of the operator: 0 after a signal, 1 after any other end, 2 for invalid settings.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Sequence

from serin.cli.prompt.command import add_arguments as add_prompt_arguments
from serin.errors import SettingsError
from serin.recursion import allow_deep_json
from serin.replay.arguments import add_arguments as add_replay_arguments
from serin.replay.recorded import replay
from serin.settings import Settings
from serin.simulation.command import add_arguments

COMMANDS = {
    "prompt": "serin.cli.prompt.command",
    "replay": "serin.replay.command",
    "simulate": "serin.simulation.command",
}
"""The module of each subcommand; its function with the name of the subcommand returns the exit status."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator or a subcommand; does not return."""
    allow_deep_json()  # `serin prompt` and `serin replay` read the objects of others, too
    given = make_parser().parse_args(arguments)
    if given.command == "evidence":
        sys.exit(_print_verdicts())
    if given.command in COMMANDS:
        sys.exit(getattr(importlib.import_module(COMMANDS[given.command]), given.command)(given))
    _run_operator()


def _run_operator() -> None:
    from serin.operator_process import Operator  # noqa: PLC0415 - only the operator needs kopf
    from serin.telemetry import configure_logging  # noqa: PLC0415

    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.log_level)
        status = asyncio.run(Operator(settings, _version()).run())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        status = 2
    logging.shutdown()
    # Not sys.exit: it waits for threads, and one may be blocked on an answer of Prometheus.
    os._exit(status)


def make_parser() -> argparse.ArgumentParser:
    """The parser of `serin` with all its subcommands."""
    parser = argparse.ArgumentParser(prog="serin", description="Kubernetes operator for canary rollouts of LLMs.")
    parser.add_argument("--version", action="version", version=f"serin {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help="default: run the operator")
    commands.add_parser("evidence", help="read slices as JSON lines from standard input and print the verdict")
    prompt_help = "list, show, render, try, compare, lint, import and export prompts, in files or on a cluster"
    add_prompt_arguments(commands.add_parser("prompt", help=prompt_help, description=prompt_help))
    replay_help = "read the counts of a trial from Prometheus again and print them as slices for serin evidence"
    add_replay_arguments(commands.add_parser("replay", help=replay_help, description=replay_help))
    simulate_help = "simulate the test and the ramp on given traffic"
    add_arguments(commands.add_parser("simulate", help=simulate_help, description=simulate_help))
    return parser


def _print_verdicts() -> int:
    """`serin evidence`; returns 2 if a line is invalid, otherwise 0."""
    status = 0
    for answer in replay(sys.stdin):
        status = 2 if "error" in answer else status
        sys.stdout.write(json.dumps(answer) + "\n")
    return status


def _version() -> str:
    try:
        return importlib.metadata.version("serin")
    except importlib.metadata.PackageNotFoundError:
        return "from source"


if __name__ == "__main__":
    main()
