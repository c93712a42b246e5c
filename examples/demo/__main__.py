"""`make demo`: prepares everything, plays the story, prints the table. Exit status 0 only if every expectation held.

Called by people and by the end-to-end tests. The cluster stays up. Not here: anything that the modules beside do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from examples.demo import own_cluster, prepare
from examples.demo.cluster import Cluster
from examples.demo.errors import DemoError
from examples.demo.follow import Follower
from examples.demo.place import users_own
from examples.demo.report import Ledger, table
from examples.demo.say import Teller
from examples.demo.scenes import LONGEST, NAME, NAMESPACE, RPS, Story, play, start_over
from examples.load import Load
from sandbox.errors import SandboxError
from sandbox.preconditions import check_demo

INTERRUPTED = 130
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Serin's whole story, in minutes.")
    parser.add_argument("--rps", type=float, default=RPS, help=f"tickets per second; default: {RPS:g}")
    parser.add_argument("--prepare", action="store_true", help="install everything that the story needs, then stop")
    options = parser.parse_args(arguments)
    if not 1 <= options.rps <= 100:
        parser.error("--rps must be between 1 and 100")
    # Whoever ends us politely gets the same clean leave as Ctrl-C.
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    tell = Teller()
    try:
        return _demo(tell, options.rps, prepare_only=options.prepare)
    except DemoError as error:
        tell.say(f"The demo cannot go on. {error}")
        return 1
    except KeyboardInterrupt:
        tell.say("Interrupted. Run the same command again to go on, or `make down` to remove everything.")
        return INTERRUPTED


def _demo(tell: Teller, rps: float, *, prepare_only: bool) -> int:
    tell.chapter("Preparing")
    place = users_own()
    if place is None:
        _ask_the_machine()
        place = prepare.sandbox(tell)
        prepare.engines(tell)
    else:
        place = own_cluster.ready(tell, place)
    prepare.operator(tell, place)
    if prepare_only:
        tell.say("Everything is installed and nothing was played. The cluster stays up.")
        return 0
    cluster = Cluster(place.environment, NAMESPACE)
    start_over(cluster, tell)
    prepared = tell.elapsed
    ledger = Ledger(tell)
    load = Load(place.gateway_url, NAME, rps=rps, seconds=LONGEST, count=int(LONGEST * rps), timeout=120)
    with Follower(cluster, NAME, tell=lambda line: tell.plain(f"[{tell.elapsed:4.0f} s]   {line}")) as follower:
        story = Story(cluster, place, tell, ledger, follower, load)
        try:
            play(story)
        except DemoError as error:
            ledger.expect(str(error), held=False, found="see above")
        finally:
            load.stop()
    return _close(tell, story, prepared)


def _ask_the_machine() -> None:
    """Refuse a machine that cannot run the sandbox and the engines, before minutes are spent on it."""
    try:
        check_demo()
    except SandboxError as error:
        raise DemoError(f"{str(error).rstrip('.')}.") from error


def _close(tell: Teller, story: Story, prepared: float) -> int:
    tell.chapter("What users saw")
    tell.plain(table(story.rows))
    broken = story.ledger.broken
    tell.plain("")
    tell.plain(f"{len(story.ledger.kept)} expectations held, {len(broken)} did not.")
    for sentence in broken:
        tell.plain(f"  NOT SO: {sentence}")
    tell.plain(
        f"{tell.elapsed:.0f} seconds in all, {prepared:.0f} of them before the first scene. The cluster stays up."
    )
    tell.plain("Three commands to try next" + (", after `. .sandbox/env`:" if story.place.sandbox else ":"))
    tell.plain(f"  kubectl --namespace {NAMESPACE} describe llmdep {NAME}")
    tell.plain(f"  kubectl --namespace {NAMESPACE} get llmdep,pods,httproutes --output wide")
    tell.plain(f"  {_retry(story)}")
    return 1 if broken else 0


def _retry(story: Story) -> str:
    """The command that tries the rejected revision again, with its real name."""
    rejected = (story.follower.latest.get("status") or {}).get("rejected") or {}
    revision = rejected.get("revision", "<revision>")
    return f"kubectl --namespace {NAMESPACE} annotate --overwrite llmdep {NAME} serin.dev/do=retry@{revision}#again"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # Once: what follows is bounded in time, and must not be cut short. Not SIG_IGN, which programs would inherit.
    for number in ENDINGS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
