"""The last two scenes: a better prompt is promoted, and a prompt with wrong keys is rolled back, in the pods that run.

Called by `__main__` after the scenes of `scenes`, whose stable they go on with. No model is loaded, so they send more
requests. Not here: the other scenes, and the tables (report).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from examples.demo import conditions as seen
from examples.demo.cluster import Object
from examples.demo.manifests import BETTER_PROMPT, FIRST_PROMPT, WRONG_KEYS, manifests
from examples.demo.report import OK, PromptRow
from examples.demo.story import (
    PATIENCE,
    RESOURCE,
    Story,
    canary_takes_traffic,
    expect_trial_in_table,
    spec_unchanged,
)

FASTER = 2.0
"""How many times as many requests per second these scenes send."""


def play(story: Story) -> None:
    """Run both scenes."""
    story.tell.chapter("Scene 5: a better prompt is promoted, in the same pods")
    first_prompt(story)
    stable = promote(story)
    roll_back(story, stable=stable)


def first_prompt(story: Story) -> None:
    """The clients' system message becomes a prompt of the cluster.

    A command promotes it: a stable without a prompt has no schema that its answers could be checked against.
    """
    story.load.rps *= FASTER
    story.load.instructs = False
    story.tell.say(f"sending {story.load.rps:g} requests per second, without a system message")
    began = time.time()
    story.apply(FIRST_PROMPT)
    canary = seen.side(canary_takes_traffic(story, since=began), "canary")
    promote_it = f"serin.dev/do=promote@{canary['revision']}#first-prompt"
    command = ("annotate", "--overwrite", RESOURCE, promote_it, f"serin.dev/by={story.cluster.user()}")
    story.tell.say(f"kubectl {' '.join(command)}")
    story.cluster.kubectl(*command)
    story.follower.wait_for("the first prompt serves all requests", _is_stable(canary["revision"]), 60, since=began)


def promote(story: Story) -> str:
    """Scene 5: a better prompt gets part of the traffic and is promoted; returns its revision."""
    expect = story.ledger.expect
    canary, after = _trial(
        story,
        "5 better prompt, promoted",
        BETTER_PROMPT,
        ends="is promoted",
        end=_is_stable,
        never=lambda _: lambda s: bool(seen.status(s).get("rejected")),
    )
    row = story.prompt_rows[-1]
    stable = [o for o in row.row.outcomes if o.status == OK and o.revision != canary]
    expect("answers of the stable's prompt could not be parsed", any(o.obeyed is False for o in stable), len(stable))
    expect("every answer of the better prompt could be parsed", not row.bad, len(row.bad))
    served = (seen.side(after, "stable").get("prompt") or {}).get("name")
    expect("the better prompt is the stable's", served == "triage-1.1.0", served)
    return canary


def roll_back(story: Story, *, stable: str) -> None:
    """Scene 6: a prompt with wrong keys is rolled back by the check `schema`, while every status code is 200."""
    story.tell.chapter("Scene 6: a prompt that names other keys is rolled back, although every status code is 200")
    expect = story.ledger.expect
    canary, after = _trial(
        story,
        "6 wrong keys, rolled back",
        WRONG_KEYS,
        ends="is rolled back",
        end=lambda _: seen.is_rolled_back,
        never=lambda revision: lambda s: seen.side(s, "stable").get("revision") == revision,
    )
    row = story.prompt_rows[-1]
    rejected = seen.status(after).get("rejected") or {}
    story.tell.say(f"   {rejected.get('message')}")
    expect("the rejection's reason is VerdictFailed", rejected.get("reason") == "VerdictFailed", rejected)
    expect("it is the check `schema` that failed", str(rejected.get("message")).startswith("schema: "), rejected)
    expect("no answer of the canary could be parsed", len(row.bad) == len(row.row.at_canary) > 0, len(row.bad))
    expect("the stable's revision is unchanged", seen.side(after, "stable")["revision"] == stable, stable)
    sent, began = len(story.load.outcomes()), time.time()
    story.load.wait_for(lambda outcomes: len(outcomes) >= sent + 60, 60)
    later = [o for o in story.load.outcomes(began) if o.revision == canary]
    expect("after the rollback no request reached the canary", not later, len(later))


def _trial(
    story: Story,
    step: str,
    path: Path,
    *,
    ends: str,
    end: Callable[[str], Callable[[Object], bool]],
    never: Callable[[str], Callable[[Object], bool]],
) -> tuple[str, Object]:
    """Play the trial of a prompt, with what is expected of every such trial.

    Returns:
        The canary's revision and the LLMDeployment after the trial.
    """
    expect = story.ledger.expect
    pods, route, began = story.pods(), story.route(), time.time()
    with story.row(step) as row:
        story.apply(path)
        canary = str(seen.side(canary_takes_traffic(story, since=began), "canary")["revision"])
        row.append(canary)
        during = story.pods()
        story.follower.wait_for(f"{canary} {ends}", end(canary), PATIENCE, never=never(canary), since=began)
    after, pods_after = story.deployment(), story.pods()
    extra = (during.keys() | pods_after.keys()) - pods.keys()
    restarts = sum(pods_after.values()) - sum(pods.values())
    story.prompt_rows.append(PromptRow(story.rows[-1], began, len(extra), restarts))
    expect_trial_in_table(story, began)
    expect("the same pods served, without a restart", pods_after == pods and not extra, (pods, pods_after))
    generations = [each["metadata"]["generation"] for each in (route, story.route())]
    expect("the HTTPRoute is unchanged", len(set(generations)) == 1, generations)
    expect("Serin did not change the spec", spec_unchanged(story, after, path), after["spec"])
    named, prompt = {o.prompt for o in story.rows[-1].at_canary}, _prompt_of(path, story)
    expect(f"every answer of the canary named its prompt, {prompt}", named == {prompt}, named)
    others = [o.error or o.status for o in story.rows[-1].outcomes if o.status != OK]
    expect("every status code was 200", not others, others[:3])
    return canary, after


def _prompt_of(path: Path, story: Story) -> str:
    """The prompt of a file, as the header `x-serin-prompt` names it."""
    (spec,) = (each["spec"] for each in manifests(path, story.place) if each["kind"] == "PromptVersion")
    return f"{spec['prompt']}@{spec['version']}"


def _is_stable(revision: str) -> Callable[[Object], bool]:
    """Whether the revision is the stable and no rollout is in progress."""
    return lambda state: seen.is_settled(state) and seen.side(state, "stable").get("revision") == revision
