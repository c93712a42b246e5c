"""LLMDeployments on the light engine, which starts in a second and answers thousands of requests per second.

Callers: the end-to-end tests and `bench.rollback`. `Story` is one LLMDeployment and the states it passes through.
Not here: traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo import conditions as seen
from examples.demo.cluster import Cluster, Object
from examples.demo.follow import Follower

IMAGE = "serin.dev/light:dev"
NAME = "light"
RESOURCE = f"llmdeployment/{NAME}"
PATIENCE = 180.0
"""Seconds that any one step of a rollout may take on the light engine."""
METRICS: Sequence[Mapping[str, Any]] = ({"name": "errors", "preset": "ErrorRate", "tolerance": {"absolute": 0.02}},)
LOADED: Mapping[str, str] = {
    "first-token-delay": "0.045",
    "time-per-token": "0.01",
    "load-slowdown": "0.04",
    "spread": "0.8",
    "slots": "128",
}
"""Arguments of an engine whose delays grow with load, about as those of an 8B model on a GPU: the values fit a
simulated engine with continuous batching at 2, 4 and 6 requests/s of some 600 tokens each. `speed` slows it down."""
STEPS: Sequence[Mapping[str, Any]] = ({"weight": 20, "hold": "1s"}, {"weight": 50, "hold": "1s"})


def host(cluster: Cluster) -> str:
    """Return the model's host name; each namespace has its own, so that no route takes the requests of another."""
    return f"{cluster.namespace}.example.com"


def manifest(
    cluster: Cluster,
    variant: str,
    *,
    steps: Sequence[Mapping[str, Any]] = STEPS,
    args: Mapping[str, str] | None = None,
    replicas: int = 1,
    metrics: Sequence[Mapping[str, Any]] = METRICS,
    ramp: Mapping[str, Any] | None = None,
    loss_tolerance: float = 0.3,
    prompt: str | None = None,
    pod_template: Mapping[str, Any] | None = None,
) -> Object:
    """Return an LLMDeployment; each variant makes an engine revision of its own, `prompt` names its PromptVersion.

    Some 230 requests prove that less than 30 % are lost; the API's default of 10 % takes thousands, by chance up to
    twice as many.
    """
    return {
        "apiVersion": "serin.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": NAME},
        "spec": {
            "model": {"name": NAME, "source": "file:///nowhere"},
            "engine": {
                "image": IMAGE,
                "args": {"seed": variant, **(args or {})},
                "resources": {"limits": {}, "requests": {"cpu": "10m", "memory": "32Mi"}},
            },
            **({"prompt": {"name": prompt}} if prompt else {}),
            **({"podTemplate": pod_template} if pod_template else {}),
            "replicas": replicas,
            "routing": {
                "gateway": {"parentRefs": [{"name": "llm", "namespace": "gateway"}], "hostnames": [host(cluster)]},
                "revealRevision": True,  # the traffic counts answers by revision
            },
            "rollout": {
                "ramp": ramp or {"steps": list(steps)},
                "minimumBake": "1s",
                "progressDeadline": "2m",
                "drainTimeout": "60s",
            },
            # The light engine answers at once, and hundreds of requests per second soon give a proof.
            "analysis": {"settleTime": "2s", "lossTolerance": loss_tolerance, "metrics": list(metrics)},
        },
    }


@dataclass(frozen=True)
class Story:
    """One LLMDeployment on the light engine, seen by a watch."""

    cluster: Cluster
    follower: Follower

    @property
    def latest(self) -> Object:
        """The object as the API server has it now."""
        return self.cluster.get(RESOURCE)

    def install(self, variant: str = "0", **options: Any) -> Object:
        """Install it and wait until it serves."""
        self.cluster.apply(manifest(self.cluster, variant, **options))
        return self.follower.wait_for("it serves", seen.is_settled, PATIENCE)

    def change(self, variant: str, **options: Any) -> Object:
        """Apply a change, and return the first state in which it is a canary."""
        self.cluster.apply(manifest(self.cluster, variant, **options))
        generation = self.latest["metadata"]["generation"]
        return self.follower.wait_for(
            "the change is a canary",
            lambda s: s["metadata"]["generation"] == generation and seen.is_current(s) and bool(seen.side(s, "canary")),
            PATIENCE,
        )

    def promoted(self, revision: str, within: float = PATIENCE) -> Object:
        """Wait until a revision is the stable and no rollout is under way."""
        return self.follower.wait_for(
            f"{revision} is promoted",
            lambda s: seen.is_settled(s) and seen.side(s, "stable").get("revision") == revision,
            within,
            never=lambda s: (seen.status(s).get("rejected") or {}).get("revision") == revision,
        )

    def rolled_back(self, revision: str) -> Object:
        """Wait until a revision is rejected and its pods are gone."""
        return self.follower.wait_for(
            f"{revision} is rolled back",
            lambda s: seen.is_rolled_back(s) and seen.status(s)["rejected"]["revision"] == revision,
            PATIENCE,
            never=lambda s: seen.side(s, "stable").get("revision") == revision,
        )

    def at_weight(self, revision: str, weight: str) -> Object:
        """Wait until the route gives the canary a weight, such as `50%`."""
        return self.follower.wait_for(
            f"{revision} gets {weight}",
            lambda s: seen.side(s, "canary").get("revision") == revision and seen.status(s).get("weight") == weight,
            PATIENCE,
            never=lambda s: (seen.status(s).get("rejected") or {}).get("revision") == revision,
        )

    def paused(self, revision: str) -> Object:
        """Wait until the ramp of a canary pauses for a person."""
        return self.follower.wait_for(
            f"the ramp of {revision} pauses",
            lambda s: seen.phase(s) == "Paused" and seen.side(s, "canary").get("revision") == revision,
            PATIENCE,
        )

    def command(self, verb: str, revision: str, token: str) -> None:
        """Give the operator a command by annotation, as a person does."""
        command = f"serin.dev/do={verb}@{revision}#{token}", f"serin.dev/by={self.cluster.user()}"
        self.cluster.kubectl("annotate", RESOURCE, "--overwrite", *command)

    def pods(self, engine_revision: str) -> dict[str, int]:
        """Return the UIDs of the pods that are not being deleted, with their restarts."""
        pods = self.cluster.items("pods", f"serin.dev/engine-revision={engine_revision}")
        return {
            pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }

    def wait_pods_gone(self, engine_revision: str) -> None:
        """Wait until no pod of the revision is left; the garbage collector deletes pods after their Deployment."""
        self.cluster.wait_gone("pods", f"serin.dev/engine-revision={engine_revision}", PATIENCE)

    def promoting(self, revision: str) -> Object:
        """Wait until a revision is the stable, though the old pods may still answer."""
        return self.follower.wait_for(
            f"{revision} becomes the stable",
            lambda s: seen.side(s, "stable").get("revision") == revision,
            PATIENCE,
            never=lambda s: (seen.status(s).get("rejected") or {}).get("revision") == revision,
        )
