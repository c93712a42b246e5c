"""Ten bad canaries of each kind, and how long they go on getting requests: `make bench-rollback`.

Writes `bench/rollback/results.md`, and ends with status 1 if a limit was exceeded: three scrape intervals plus two
seconds from the first bad answer to the last, and for prompts five seconds from the apply to the first answer.
`--only prompts` measures one section and keeps the others. Starts the sandbox if needed and leaves it running. Not
here: simulated rollouts (`bench.decision`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.rollback import engines, prompts
from bench.rollback.page import page
from examples.demo import prepare
from examples.demo.cluster import temporary_namespace
from examples.demo.say import Teller
from examples.light.image import load_image

RESULTS = Path(__file__).with_name("results.md")
PARTS = {"engines": engines, "prompts": prompts}


def main() -> int:
    """Measure, write the page, and return 1 if a limit was exceeded."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback", description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="the section to measure; default: all")
    only = parser.parse_args().only
    tell = Teller()
    place = prepare.sandbox(tell)
    prepare.operator(tell, place)
    load_image(tell, place)
    sections, good = {}, True
    for name in [only] if only else PARTS:
        with temporary_namespace(place.environment, f"bench-rollback-{name}") as cluster:
            sections[PARTS[name].TITLE], within = PARTS[name].measure(place, cluster, tell)
        good &= within
    before = RESULTS.read_text() if RESULTS.exists() else ""
    RESULTS.write_text(page(before, sections, [part.TITLE for part in PARTS.values()]))
    print(RESULTS.read_text())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
