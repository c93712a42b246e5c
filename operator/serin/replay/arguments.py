"""The arguments of `serin replay`, apart from the command, so that the parser needs no client of Kubernetes."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serin replay`."""
    parser.add_argument("name", help="name of the LLMDeployment")
    parser.add_argument("--namespace", "-n", default="default", help="its namespace; default: default")
    parser.add_argument(
        "--prometheus", metavar="URL", help="Prometheus to read; default: that of the spec, else SERIN_PROMETHEUS_URL"
    )
    parser.add_argument("--metric", metavar="NAME", help="metric to replay; default: the first Required one")
    parser.add_argument(
        "--boundary",
        type=int,
        metavar="N",
        help="boundary of a latency, from 1; default: the one with the strongest evidence",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare the totals with the stored ones; the exit status is 1 if they differ",
    )
