"""`make demo`: prepares the cluster, runs the scenes and prints the table.

The exit status is 0 only if every expectation held. Called by people and by the end-to-end tests. The cluster keeps
running. Not here: what the other modules of the package do.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from examples.demo import own_cluster, prepare, prompt_scenes, scenes
from examples.demo.cluster import HOST_PODS, Cluster
from examples.demo.errors import DemoError
from examples.demo.follow import Follower
from examples.demo.place import users_cluster
from examples.demo.report import PROMPT_HEADER, Ledger, table
from examples.demo.say import Teller
from examples.demo.story import LONGEST, NAME, NAMESPACE, RPS, Story, remove_earlier_run
from examples.load import Load
from sandbox.cli.preconditions import check_demo
from sandbox.errors import SandboxError

INTERRUPTED = 130
MOST_REQUESTS = 100_000
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Run a first install, a promotion and a rollback on a real cluster, in minutes.",
    )
    parser.add_argument("--rps", type=float, default=RPS, help=f"requests per second; default: {RPS:g}")
    parser.add_argument("--prepare", action="store_true", help="install what the scenes need, then stop")
    options = parser.parse_args(arguments)
    if not 1 <= options.rps <= 100:
        parser.error("--rps must be between 1 and 100")
    # SIGTERM and SIGHUP stop the demo as cleanly as Ctrl-C.
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    tell = Teller()
    try:
        return _demo(tell, options.rps, prepare_only=options.prepare)
    except DemoError as error:
        tell.say(f"The demo stopped. {error}")
        return 1
    except KeyboardInterrupt:
        tell.say("Interrupted. Run the same command to start again, or `make down` to remove everything.")
        return INTERRUPTED


def _demo(tell: Teller, rps: float, *, prepare_only: bool) -> int:
    tell.chapter("Preparing")
    place = users_cluster()
    if place is None:
        _check_machine()
        place = prepare.sandbox(tell)
        prepare.engines(tell)
    else:
        place = own_cluster.ready(tell, place)
    prepare.operator(tell, place)
    if prepare_only:
        tell.say("Everything is installed; no scene was run. The cluster keeps running.")
        return 0
    cluster = Cluster(place.environment, NAMESPACE)
    cluster.make_namespace(HOST_PODS if place.sandbox else None)
    remove_earlier_run(cluster, tell)
    prepared = tell.elapsed
    ledger = Ledger(tell)
    load = Load(place.gateway_url, NAME, rps=rps, seconds=LONGEST, count=MOST_REQUESTS, timeout=120)
    with Follower(cluster, NAME, tell=lambda line: tell.plain(f"[{tell.elapsed:4.0f} s]   {line}")) as follower:
        story = Story(cluster, place, tell, ledger, follower, load)
        try:
            scenes.play(story)
            if place.sandbox:
                # On another model these prompts mean something else.
                prompt_scenes.play(story)
        except DemoError as error:
            ledger.expect(str(error), held=False, found="see above")
        finally:
            load.stop()
    return _close(tell, story, prepared)


def _check_machine() -> None:
    """Check that this machine can run the sandbox and the engines, before anything is built.

    Raises:
        DemoError: it cannot.
    """
    try:
        check_demo()
    except SandboxError as error:
        raise DemoError(f"{str(error).rstrip('.')}.") from error


def _close(tell: Teller, story: Story, prepared: float) -> int:
    tell.chapter("What users saw")
    tell.plain(table(story.rows))
    if story.prompt_rows:
        tell.plain("")
        tell.plain(table(story.prompt_rows, PROMPT_HEADER))
    broken = story.ledger.broken
    tell.plain("")
    tell.plain(f"{len(story.ledger.held)} expectations held, {len(broken)} did not.")
    for sentence in broken:
        tell.plain(f"  FAILED: {sentence}")
    tell.plain(
        f"The demo took {tell.elapsed:.0f} seconds, {prepared:.0f} of them before the first scene. "
        "The cluster keeps running."
    )
    tell.plain("Commands to try next" + (", after `. .sandbox/env`:" if story.place.sandbox else ":"))
    tell.plain(f"  kubectl --namespace {NAMESPACE} describe llmdep {NAME}")
    tell.plain(f"  kubectl --namespace {NAMESPACE} get llmdep,pods,httproutes --output wide")
    tell.plain(f"  {_retry(story)}")
    return 1 if broken else 0


def _retry(story: Story) -> str:
    """The kubectl command that retries the rejected revision."""
    rejected = (story.follower.latest.get("status") or {}).get("rejected") or {}
    revision = rejected.get("revision", "<revision>")
    command = f"serin.dev/do=retry@{revision}#again serin.dev/by={story.cluster.user()}"
    return f"kubectl --namespace {NAMESPACE} annotate --overwrite llmdep {NAME} {command}"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # Ignore further signals: the cleanup is bounded in time and must finish. Not SIG_IGN, which programs would inherit.
    for number in ENDINGS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
