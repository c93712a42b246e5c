"""The first four scenes: a first install, a better checkpoint, a bad change, and the same file again.

Called by `__main__`. A scene never waits for a fixed time: it waits for a state that `kubectl` shows, and fails with a
message if the state does not occur. Not here: the scenes of prompts (prompt_scenes), preparation (prepare), and the
table (report).
"""

from __future__ import annotations

import time

from examples.demo import conditions as seen
from examples.demo.manifests import BETTER, INSTALL, TOO_SMALL
from examples.demo.story import (
    NAME,
    PATIENCE,
    RESOURCE,
    Story,
    canary_takes_traffic,
    expect_trial_in_table,
    same_pods,
    spec_unchanged,
)


def play(story: Story) -> None:
    """Run all four scenes in order."""
    install(story)
    canary = promote(story)
    rejected = roll_back(story, stable=canary)
    apply_again(story, rejected)


def install(story: Story) -> None:
    """Scene 1: the first install gets 100 % of the traffic when it is Ready."""
    expect = story.ledger.expect
    story.tell.chapter("Scene 1: first install of triage, with an early checkpoint")
    story.apply(INSTALL)
    story.tell.say(f"kubectl wait {RESOURCE} --for=condition=Ready")
    story.cluster.wait(RESOURCE, "condition=Ready", PATIENCE)
    story.follower.wait_for("the first install is complete", seen.is_settled, 60)
    loading = [seen.row(s) for _, s in story.follower.states if seen.phase(s) == "Installing"]
    held = bool(loading) and set(loading) == {seen.LOADING}
    expect("while the first revision was loading, it was Reconciling, not Available and not Ready", held, loading)
    story.load.start()
    story.tell.say(f"sending {story.load.rps:g} requests per second to {story.place.gateway_url}")
    with story.row("1 first install"):
        enough = story.load.wait_for(lambda outcomes: len(outcomes) >= 60, 60)
    failed = [o.error for o in story.load.outcomes() if o.failed]
    expect("no user got an error", enough and not failed, failed[:3] or "fewer than 60 answers")
    wrong = sum(o.good is False for o in story.load.outcomes())
    story.tell.say(
        f"   {wrong} of {len(story.load.outcomes())} answers were wrong, because the checkpoint is an early one"
    )


def promote(story: Story) -> str:
    """Scene 2: a better checkpoint gets part of the traffic and is promoted; returns its revision."""
    expect, follower = story.ledger.expect, story.follower
    before, began = story.deployment(), time.time()
    story.tell.chapter("Scene 2: a better checkpoint is promoted")
    with story.row("2 better checkpoint, promoted") as row:
        story.apply(BETTER)
        state = canary_takes_traffic(story, since=began)
        canary = seen.side(state, "canary")
        row.append(canary["revision"])
        pods = story.pods(canary["engineRevision"])
        follower.wait_for(
            f"{canary['revision']} is promoted and the old pods are gone",
            lambda s: seen.is_settled(s) and seen.side(s, "stable").get("revision") == canary["revision"],
            PATIENCE,
            never=lambda s: bool(seen.status(s).get("rejected")),
            since=began,
        )
    after = story.deployment()
    expect_trial_in_table(story, began)
    expect("the canary's pods became the stable's pods, without a restart", same_pods(pods, story, canary), pods)
    old = seen.side(before, "stable")["engineRevision"]
    expect("the old stable's pods were removed", story.pods_are_removed(old), story.pods(old))
    expect("Serin did not change the spec", spec_unchanged(story, after, BETTER), after["spec"])
    failed = [o.error for o in story.rows[-1].outcomes if o.failed]
    expect("no user got an error", not failed, failed[:3])
    expect("the canary answered part of the requests before the promotion", bool(story.rows[-1].at_canary))
    return str(canary["revision"])


def roll_back(story: Story, *, stable: str) -> str:
    """Scene 3: a bad change is rolled back because of metrics in Prometheus; returns its revision."""
    expect, follower = story.ledger.expect, story.follower
    before, began = story.deployment(), time.time()
    pods = story.pods(seen.side(before, "stable")["engineRevision"])
    story.tell.chapter("Scene 3: max-model-len is too small for some prompts, so the canary is rolled back")
    with story.row("3 too small, rolled back") as row:
        story.apply(TOO_SMALL)
        canary = seen.side(canary_takes_traffic(story, since=began), "canary")
        row.append(canary["revision"])
        follower.wait_for(
            f"{canary['revision']} is rolled back",
            seen.is_rolled_back,
            PATIENCE,
            never=lambda s: seen.side(s, "stable").get("revision") == canary["revision"],
            since=began,
        )
    after = story.deployment()
    expect_trial_in_table(story, began)
    rejected = seen.status(after).get("rejected") or {}
    story.tell.say(f"   {rejected.get('message')}")
    expect("the rejection's reason is VerdictFailed", rejected.get("reason") == "VerdictFailed", rejected)
    reason = seen.conditions(after)["Ready"]["reason"]
    expect("Ready is False with reason RolledBack, and Stalled is True", reason == "RolledBack", reason)
    expect("the stable keeps serving, in the same pods", same_pods(pods, story, seen.side(after, "stable")), pods)
    expect("the stable's revision is unchanged", seen.side(after, "stable")["revision"] == stable, stable)
    services, engine = story.services_on_route(), seen.side(after, "stable")["engineRevision"]
    expect("the route contains the stable only", services == {f"{NAME}-{engine}"}, services)
    expect("the canary's pods were removed", story.pods_are_removed(canary["engineRevision"]))
    expect("Serin did not change the spec", spec_unchanged(story, after, TOO_SMALL), after["spec"])
    theirs = story.rows[-1].at_canary
    expect("the canary answered requests with errors", any(o.failed for o in theirs), len(theirs))
    elsewhere = [o.error for o in story.rows[-1].outcomes if o.failed and o.revision != canary["revision"]]
    expect("no other request got an error", not elsewhere, elsewhere[:3])
    return str(canary["revision"])


def apply_again(story: Story, rejected: str) -> None:
    """Scene 4: the rejected revision is not tried again, also after a change to another revision and back."""
    expect, follower = story.ledger.expect, story.follower
    story.tell.chapter("Scene 4: the rejected file is applied again")
    before = story.deployment()
    with story.row("4 the same file again") as row:
        row.append(rejected)
        expect("kubectl apply changes nothing", story.apply(TOO_SMALL) == "unchanged")
        same = story.deployment()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        expect("the resourceVersion of the LLMDeployment is unchanged", same)
        began = time.time()
        story.apply(BETTER)
        follower.wait_for("the stable's own spec is complete at once", seen.is_settled, 60, since=began)
        began = time.time()
        story.apply(TOO_SMALL)
        follower.wait_for("the rejected revision is rolled back at once", seen.is_rolled_back, 60, since=began)
        sent = len(story.load.outcomes())
        enough = story.load.wait_for(lambda outcomes: len(outcomes) >= sent + 60, 60)
        expect("60 more requests were completed", enough)
    after = story.deployment()
    again = seen.status(after).get("rejected") or {}
    expect("the rejection in the status is the same as before", again == seen.status(before)["rejected"], again)
    tried = [seen.phase(s) for at, s in follower.states if at >= began and seen.side(s, "canary")]
    expect("there was no second trial", not tried, tried)
    expect("no request reached the rejected revision", not story.rows[-1].at_canary, len(story.rows[-1].at_canary))
    failed = [o.error for o in story.rows[-1].outcomes if o.failed]
    expect("no user got an error in this scene", not failed, failed[:3])
