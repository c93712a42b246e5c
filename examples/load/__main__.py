"""Command line of the load generator: `python -m examples.load --url URL --rps 4 --seconds 60`.

Prints one line per revision that answered, if the LLMDeployment has `routing.revealRevision`; else one line. The exit
status is 1 if a request failed. Not here: sending (generator).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence

from examples.load.generator import Load
from examples.load.outcome import Outcome, count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.load", description="Send tickets to a model at a fixed rate and check the answers."
    )
    parser.add_argument(
        "--url", default=os.environ.get("GATEWAY_URL"), help="URL of the gateway, without /v1; default: $GATEWAY_URL"
    )
    parser.add_argument("--model", default="triage", help="name of the model (spec.model.name); default: triage")
    parser.add_argument("--rps", type=float, default=4.0, help="requests per second; default: 4")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration in seconds; default: 60")
    parser.add_argument("--count", type=int, default=10_000, help="maximum number of requests; default: 10000")
    parser.add_argument("--long-share", type=float, default=0.3, help="share of long tickets, 0 to 1; default: 0.3")
    parser.add_argument("--host", help="Host header, if the gateway routes by host name")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds after which a client gives up; default: 30"
    )
    parser.add_argument(
        "--concurrency", type=int, default=200, help="maximum number of requests in flight; default: 200"
    )
    parser.add_argument(
        "--no-instruction", action="store_true", help="send no system message; use it where the pods have a prompt"
    )
    options = parser.parse_args(arguments)
    if not options.url:
        parser.error("the URL of the gateway is missing: set --url or GATEWAY_URL")
    if min(options.rps, options.seconds, options.count, options.timeout, options.concurrency) <= 0:
        parser.error("--rps, --seconds, --count, --timeout and --concurrency must be above 0")
    load = Load(
        options.url.rstrip("/"),
        options.model,
        rps=options.rps,
        seconds=options.seconds,
        count=options.count,
        concurrency=options.concurrency,
        timeout=options.timeout,
        long_share=options.long_share,
        host=options.host,
        instructs=not options.no_instruction,
    )
    load.start()
    try:
        load.join()
    except KeyboardInterrupt:
        load.stop()
    print(summary(load.outcomes()))
    return 1 if any(outcome.failed for outcome in load.outcomes()) else 0


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table with one line per revision, and up to 10 different errors."""
    by_revision: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_revision[outcome.revision or "unknown"].append(outcome)
    lines = [f"{'REVISION':14} {'SENT':>6} {'ERRORS':>7} {'WRONG':>6} {'MEDIAN':>8}"]
    for revision, theirs in sorted(by_revision.items()):
        all_of = count(theirs)
        lines.append(f"{revision:14} {all_of.sent:6} {all_of.failed:7} {all_of.wrong:6} {all_of.latency:7.2f}s")
    errors = sorted({outcome.error for outcome in outcomes if outcome.error})
    return "\n".join([*lines, *(f"  {error}" for error in errors[:10])])


if __name__ == "__main__":
    sys.exit(main())
