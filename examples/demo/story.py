"""The state that the scenes share, and what they expect of every trial.

Called by `scenes`, `prompt_scenes` and `__main__`. Not here: the scenes themselves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster, Object
from examples.demo.errors import CommandError
from examples.demo.follow import Follower
from examples.demo.manifests import manifest, manifests
from examples.demo.place import ROOT, Place
from examples.demo.report import Ledger, PromptRow, Row
from examples.demo.say import Teller
from examples.load import Load

NAMESPACE = "serin-demo"
NAME = "triage"
RESOURCE = f"llmdeployment/{NAME}"
PATIENCE = 600.0
"""Seconds to wait for the slowest step, the loading of a model."""
RPS = 12.0
LONGEST = 1800.0
"""Seconds after which the load generator stops in any case."""


@dataclass
class Story:
    """The state that the scenes share."""

    cluster: Cluster
    place: Place
    tell: Teller
    ledger: Ledger
    follower: Follower
    load: Load
    rows: list[Row] = field(default_factory=list)
    prompt_rows: list[PromptRow] = field(default_factory=list)

    def apply(self, path: Path) -> str:
        """Apply a file with kubectl; returns kubectl's word for its last object: created, configured or unchanged."""
        self.tell.say(f"kubectl apply --filename {path.relative_to(ROOT)}")
        line = ""
        for each in manifests(path, self.place):
            line = self.cluster.apply(each)
            self.tell.say(line)
        return line.split()[-1]

    def deployment(self) -> Object:
        """The current LLMDeployment."""
        return self.cluster.get(RESOURCE)

    def pods(self, engine_revision: str | None = None) -> dict[str, int]:
        """Restarts of the containers of all pods, or of those of an engine revision, by UID of the pod."""
        of_engine = f",serin.dev/engine-revision={engine_revision}" if engine_revision else ""
        pods = self.cluster.items("pods", f"serin.dev/deployment={NAME}{of_engine}")
        return {
            pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }

    def pods_are_removed(self, engine_revision: str) -> bool:
        """Whether all pods of an engine revision are gone within 120 seconds."""
        try:
            self.cluster.wait_gone("pods", f"serin.dev/engine-revision={engine_revision}", 120)
        except CommandError:
            return False
        return True

    def route(self) -> Object:
        """The HTTPRoute."""
        return self.cluster.get(f"httproute/{NAME}")

    def services_on_route(self) -> set[str]:
        """Names of the route's Services, at any weight."""
        rules = self.route()["spec"]["rules"]
        return {backend["name"] for rule in rules for backend in rule["backendRefs"]}

    @contextmanager
    def row(self, step: str) -> Iterator[list[str]]:
        """Make one row of the table from the requests sent inside; the block appends the canary's revision."""
        began, canary = time.time(), list[str]()
        yield canary
        # Requests sent just before the end are still in flight.
        ended = time.time()
        last = self.load.outcomes()
        self.load.wait_for(lambda o: len(o) >= len(last) + self.load.rps * 2, self.load.timeout)
        self.rows.append(Row(step, self.load.outcomes(began, ended), canary[0] if canary else None))


def remove_earlier_run(cluster: Cluster, tell: Teller) -> None:
    """Remove the LLMDeployment and the prompts of an earlier run, so that scene 1 is a first install."""
    if cluster.find(RESOURCE) is not None:
        tell.say("removing the LLMDeployment of an earlier run")
        cluster.kubectl("delete", RESOURCE, "--wait", timeout=120)
    cluster.kubectl("delete", "promptversions", "--all", "--wait", timeout=120)
    for kind in ("httproutes", "deployments", "services", "pods", "controllerrevisions"):
        cluster.wait_gone(kind, f"serin.dev/deployment={NAME}", 180)


def canary_takes_traffic(story: Story, *, since: float) -> Object:
    """Wait for the first state in which the canary's weight is above 0."""
    return story.follower.wait_for(
        "the canary gets traffic",
        lambda s: seen.is_current(s) and seen.side(s, "canary").get("weight", "0%") != "0%",
        PATIENCE,
        never=lambda s: seen.is_current(s) and seen.phase(s) in {"RolledBack", "Blocked"},
        since=since,
    )


def expect_trial_in_table(story: Story, began: float) -> None:
    """Expect all conditions in every state, and the row CANARY in every state of the trial."""
    states = [s for at, s in story.follower.states if at >= began and seen.is_current(s)]
    rows = {seen.row(s) for s in states if seen.phase(s) in seen.ON_TRIAL}
    held = rows == {seen.CANARY}
    story.ledger.expect("during the trial it was Available, Ready and Reconciling, not Stalled", held, rows)
    complete = all(set(seen.conditions(s)) == set(seen.TYPES) for s in states)
    story.ledger.expect(f"every status had all {len(seen.TYPES)} conditions", complete)


def same_pods(pods: dict[str, int], story: Story, now: dict[str, str]) -> bool:
    """Whether the side `now` has exactly these pods, without restarts."""
    return bool(pods) and story.pods(now["engineRevision"]) == dict.fromkeys(pods, 0)


def spec_unchanged(story: Story, after: Object, path: Path) -> bool:
    """Whether the spec contains what was applied, and only kubectl has written it."""
    wanted = manifest(path, story.place)["spec"]
    writers = {
        entry["manager"]
        for entry in after["metadata"].get("managedFields", ())
        if "f:spec" in entry.get("fieldsV1", {}) and not entry.get("subresource")
    }
    return _within(wanted, after["spec"]) and writers <= {"kubectl-client-side-apply"}


def _within(wanted: object, found: object) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(_within(value, found.get(key)) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str) and isinstance(found, Sequence):
        return len(wanted) == len(found) and all(_within(w, f) for w, f in zip(wanted, found, strict=True))
    return wanted == found
