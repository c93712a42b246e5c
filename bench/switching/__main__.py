"""Sixteen pods and one trial of a prompt: how long each split takes to reach them all. `make bench-switching`.

Writes `bench/switching/results.md`, and ends with status 1 if a split took longer than ten seconds or a request failed.
Starts the sandbox if needed and leaves it running.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from bench.sections import commit
from bench.switching.watching import EVERY, Splits, Watcher
from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import temporary_namespace
from examples.demo.follow import Follower
from examples.demo.say import Teller
from examples.light.image import load_image
from examples.light.prompts import CHECKED, name_of, prompt_version
from examples.light.story import NAME, PATIENCE, Story
from examples.light.traffic import Traffic

PODS = 16
"""As many as fit: the node has two cores, and each pod asks for a tenth of one while it starts."""
RATE = 80.0
LIMIT = 10.0
"""Seconds from the write of a document to the last pod that uses it."""
RESULTS = Path(__file__).with_name("results.md")
SETTINGS: dict[str, Any] = {"metrics": CHECKED, "replicas": PODS}


def main() -> int:
    """Measure, write the page, and return 1 if a limit was exceeded."""
    tell = Teller()
    place = prepare.sandbox(tell)
    prepare.operator(tell, place)
    load_image(tell, place)
    with temporary_namespace(place.environment, "bench-switching") as cluster, Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        cluster.apply(prompt_version("1.0.0"))
        engine = seen.side(story.install(prompt=name_of("1.0.0"), **SETTINGS), "stable")["engineRevision"]
        pods = cluster.items("pods", f"serin.dev/engine-revision={engine}")
        port = pods[0]["spec"]["containers"][0]["ports"][0]["containerPort"]
        names = [pod["metadata"]["name"] for pod in pods]
        with (
            Traffic(place, cluster, RATE) as traffic,
            Watcher(cluster, f"{NAME}-{engine}-split", names, port) as watcher,
        ):
            traffic.wait_for(int(RATE * 10), PATIENCE)
            cluster.apply(prompt_version("1.1.0"))
            trial = story.change("0", prompt=name_of("1.1.0"), **SETTINGS)
            story.promoted(seen.side(trial, "canary")["revision"])
            # The last document, without the old prompt, is written with the end of the trial.
            traffic.wait_for(int(RATE * LIMIT / 2), PATIENCE)
    RESULTS.write_text(_page(watcher.splits, failed=len(traffic.failures), of=traffic.ended))
    print(RESULTS.read_text())
    numbers = range(1, len(watcher.splits.documents))
    complete = all(len(watcher.splits.seconds(n)) == PODS for n in numbers)
    worst = max(watcher.splits.seconds(n)[-1] for n in numbers)
    return 0 if complete and worst <= LIMIT and not traffic.failures else 1


def _page(splits: Splits, *, failed: int, of: int) -> str:
    lines = [
        f"# How long a split takes to reach {PODS} pods",
        "",
        f"Written by `make bench-switching`: {PODS} pods of the light engine, {RATE:g} requests/s,",
        "one trial of a promoted prompt. Seconds are from the write of the split document until a pod shows it in",
        f"`serin_split_info`; all pods are asked every {EVERY:g} s. The limit for the last pod is {LIMIT:g} s.",
        "",
        "| split in the pods | first pod, s | median, s | last pod, s |",
        "|---|---|---|---|",
    ]
    for number, (_, document) in enumerate(splits.documents[1:], start=1):
        seconds = splits.seconds(number)
        shares = " / ".join(f"{weight / 100:g} %" for _, weight in document.shares)
        lines.append(f"| {shares} | {seconds[0]:.2f} | {statistics.median(seconds):.2f} | {seconds[-1]:.2f} |")
    lines += ["", "A time of 0 is not reliable: the watch showed that document no earlier than the pods did."]
    lines += ["", f"Failed requests: {failed} of {of}.", "", f"At {commit()}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
