"""The revisions whose requests a series counts."""

import pytest

from serin.analysis.counts import Names
from serin.kube_types import Key
from serin.metric_sources.attribution import Attribution
from serin.metric_sources.port import Watch
from serin.settings import Settings

SETTINGS = Settings(identity="test")
A = Watch(namespace="ns", name="a", engine_of=(("r1", "e1"), ("r2", "e2")))
B = Watch(namespace="other", name="b", engine_of=(("r1", "e1"), ("r3", "e1")))


def attribution(names: Names) -> Attribution:
    return Attribution(names, [(watch, [revision for revision, _ in watch.engine_of]) for watch in (A, B)], SETTINGS)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (Names.REVISION, ["r1", "r2", "r3"]),
        (Names.BACKEND, ["ns_a-r1_8000", "ns_a-r2_8000", "other_b-r1_8000", "other_b-r3_8000"]),
        (Names.ENGINE, ["e1", "e2"]),
    ],
)
def test_label_values_that_are_queried(names: Names, values: list[str]) -> None:
    assert attribution(names).values == values


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (Names.REVISION, {"revision": "r1"}, [(A.key, "r1"), (B.key, "r1")]),
        (Names.REVISION, {"revision": "r1", "namespace": "ns"}, [(A.key, "r1")]),
        (Names.REVISION, {"revision": "r1", "namespace": "", "deployment": "b"}, [(B.key, "r1")]),
        (Names.REVISION, {"revision": "r1", "namespace": "ns", "deployment": "b"}, []),
        (Names.REVISION, {"revision": "none"}, []),
        (Names.REVISION, {}, []),
        (Names.BACKEND, {"envoy_cluster_name": "ns_a-r1_8000", "namespace": "gateway"}, [(A.key, "r1")]),
        (Names.BACKEND, {"envoy_cluster_name": "ns_a-r1_80000"}, []),
        # Both of B's revisions run on e1, so its series count them together.
        (Names.ENGINE, {"engine_revision": "e1"}, [(A.key, "r1")]),
        (Names.ENGINE, {"engine_revision": "e1", "namespace": "other", "deployment": "b"}, []),
        (Names.ENGINE, {"engine_revision": "e2", "namespace": "ns", "deployment": "a"}, [(A.key, "r2")]),
    ],
)
def test_series_is_attributed_by_its_labels(
    names: Names, labels: dict[str, str], expected: list[tuple[Key, str]]
) -> None:
    assert attribution(names).of(labels) == expected


def test_request_without_a_revision_is_not_attributed() -> None:
    without_revision = Watch(namespace="ns", name="a", engine_of=(("none", "e"),))
    assert Attribution(Names.REVISION, [(without_revision, ["none"])], SETTINGS).values == []


def test_backend_is_named_by_the_service_that_gets_the_requests() -> None:
    """The stable's pods are of the version before; those of the canary read a split document."""
    mixed = Watch(
        namespace="ns",
        name="a",
        engine_of=(("r1", "e1"), ("r2", "e2")),
        backend_of=(("r1", "r1"), ("r2", "e2"), ("r3", "e2")),
    )
    found = Attribution(Names.BACKEND, [(mixed, ["r1", "r2"])], SETTINGS)

    assert found.values == ["ns_a-e2_8000", "ns_a-r1_8000"]
    assert found.of({"envoy_cluster_name": "ns_a-e2_8000"}) == [(mixed.key, "r2")]


def test_backend_of_both_sides_names_neither() -> None:
    shared = Watch(
        namespace="ns", name="a", engine_of=(("r1", "e1"), ("r2", "e1")), backend_of=(("r1", "e1"), ("r2", "e1"))
    )

    assert Attribution(Names.BACKEND, [(shared, ["r1", "r2"])], SETTINGS).values == []
