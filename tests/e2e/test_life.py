"""What holds all along the life of an LLMDeployment: waiting, promoting, uninstalling the operator, deleting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.demo.say import Teller
from examples.light.story import NAME, PATIENCE, RESOURCE, Story, manifest
from examples.light.traffic import Traffic

CHILDREN = (
    "deployments",
    "replicasets",
    "pods",
    "services",
    "poddisruptionbudgets",
    "controllerrevisions",
    "httproutes",
)
OURS = f"serin.dev/deployment={NAME}"


@pytest.fixture
def installed_again(place: Place) -> Iterator[None]:
    """Whatever a test uninstalls is there for the next one."""
    yield
    prepare.operator(Teller(), place)


def test_kubectl_wait_for_ready_returns_when_the_model_serves(place: Place, cluster: Cluster) -> None:
    cluster.apply(manifest(cluster, "0"))
    cluster.wait(RESOURCE, "condition=Ready", 120)
    with Traffic(place, cluster, 50, limit=100) as traffic:
        traffic.wait_for(100, PATIENCE)
    assert traffic.failures == []


def test_promotion_keeps_the_canarys_pods_and_removes_the_old_ones(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        old = seen.side(story.install(replicas=2), "stable")
        with Traffic(place, cluster, 50):
            steps = [{"weight": 60, "hold": "1s"}]
            canary = seen.side(story.change("1", steps=steps, replicas=2), "canary")
            story.at_weight(canary["revision"], "60%")
            pods = story.pods(canary["engineRevision"])
            story.promoted(canary["revision"])
        assert len(pods) == 2
        assert story.pods(canary["engineRevision"]) == dict.fromkeys(pods, 0)
        story.wait_pods_gone(old["engineRevision"])


@pytest.mark.usefixtures("installed_again")
def test_uninstalling_operator_and_definitions_leaves_models_running(place: Place, cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        stable = seen.side(story.install(), "stable")
    pods = story.pods(stable["engineRevision"])
    system = Cluster(place.environment, prepare.SYSTEM_NAMESPACE)
    # helm takes the rights away before the pods have ended; a leader that is gone by then releases its Lease in peace.
    system.kubectl("scale", f"deployment/{prepare.RELEASE}", "--replicas=0")
    system.wait_gone("pods", prepare.OPERATOR_PODS, 90)
    for release in (prepare.RELEASE, prepare.DEFINITIONS_RELEASE):
        system.run(["helm", "uninstall", release, "--namespace", system.namespace, "--wait"], timeout=200)
    with Traffic(place, cluster, 50, limit=200) as traffic:
        traffic.wait_for(200, PATIENCE)
    assert traffic.failures == []
    assert pods
    assert story.pods(stable["engineRevision"]) == dict.fromkeys(pods, 0)
    assert story.latest["spec"]["model"]["name"] == NAME


def test_deleting_an_llmdeployment_removes_everything_that_it_owns(cluster: Cluster) -> None:
    with Follower(cluster, NAME) as follower:
        Story(cluster, follower).install()
    before = {kind for kind in CHILDREN if cluster.items(kind, OURS)}
    assert before == set(CHILDREN)
    cluster.kubectl("delete", RESOURCE, "--wait", timeout=90)
    for kind in CHILDREN:
        cluster.wait_gone(kind, OURS, 120)
        assert cluster.items(kind, OURS) == []
