"""The life of an LLMDeployment: installed, served, without the operator, and deleted with all that it owns."""

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
    """Install the operator again if a test failed after it uninstalled it."""
    yield
    system = Cluster(place.environment, prepare.SYSTEM_NAMESPACE)
    releases = system.run(["helm", "list", "--namespace", system.namespace, "--short"]).split()
    if not {prepare.RELEASE, prepare.DEFINITIONS_RELEASE} <= set(releases):
        prepare.operator(Teller(), place)


@pytest.mark.usefixtures("installed_again")
def test_model_serves_without_the_operator_and_is_deleted_whole(place: Place, cluster: Cluster) -> None:
    cluster.apply(manifest(cluster, "0"))
    cluster.wait(RESOURCE, "condition=Ready", 120)
    with Follower(cluster, NAME) as follower:
        story = Story(cluster, follower)
        stable = seen.side(follower.wait_for("it serves", seen.is_settled, PATIENCE), "stable")
    assert_serves(place, cluster, requests=100)
    pods = story.pods(stable["engineRevision"])

    uninstall(place)
    assert_serves(place, cluster, requests=200)
    assert pods
    assert story.pods(stable["engineRevision"]) == dict.fromkeys(pods, 0)

    prepare.operator(Teller(), place)
    assert {kind for kind in CHILDREN if cluster.items(kind, OURS)} == set(CHILDREN)
    cluster.kubectl("delete", RESOURCE, "--wait", timeout=90)
    for kind in CHILDREN:
        cluster.wait_gone(kind, OURS, 120)
        assert cluster.items(kind, OURS) == []


def assert_serves(place: Place, cluster: Cluster, requests: int) -> None:
    """Send requests; none may fail."""
    with Traffic(place, cluster, 50, limit=requests) as traffic:
        traffic.wait_for(requests, PATIENCE)
    assert traffic.failures == []


def uninstall(place: Place) -> None:
    """Remove both releases; the definitions stay, and with them every LLMDeployment."""
    system = Cluster(place.environment, prepare.SYSTEM_NAMESPACE)
    # helm removes the permissions before the pods end: the leader ends first, while it may still release its Lease.
    system.kubectl("scale", f"deployment/{prepare.RELEASE}", "--replicas=0")
    system.wait_gone("pods", prepare.OPERATOR_PODS, 90)
    for release in (prepare.RELEASE, prepare.DEFINITIONS_RELEASE):
        system.run(["helm", "uninstall", release, "--namespace", system.namespace, "--wait"], timeout=200)
