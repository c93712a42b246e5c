"""Comparison of a stored object with a rendered one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serin.manifests.contains import contains
from tests.unit.manifests.test_children import rich_children

Object = dict[str, Any]
Path = tuple[str | int, ...]

CHILDREN = {child["kind"]: child for child in rich_children()}
kinds = st.sampled_from(sorted(CHILDREN))


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value that is neither a map nor a list."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from leaves(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from leaves(below, (*path, index))
    else:
        yield path


def changed(obj: Object, path: Path, change: Callable[[Any], Any]) -> Object:
    """A copy with another value at the path."""
    copied = copy.deepcopy(obj)
    below: Any = copied
    for step in path[:-1]:
        below = below[step]
    below[path[-1]] = change(below[path[-1]])
    return copied


def served(kind: str) -> Object:
    """A child as the API server returns it, with the fields that it adds to this kind."""
    obj = copy.deepcopy(CHILDREN[kind])
    obj["metadata"] |= {"uid": "1", "resourceVersion": "7", "creationTimestamp": "2026-05-04T12:00:00Z"}
    obj["status"] = {"observedGeneration": 1}
    if kind == "Deployment":
        pod = obj["spec"]["template"]["spec"]
        pod |= {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler"}
        pod["containers"][0] |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
        pod["containers"][0]["startupProbe"]["httpGet"]["scheme"] = "HTTP"
        pod["containers"].append({"name": "injected", "image": "proxy:1"})
        obj["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    elif kind == "Service":
        obj["spec"] |= {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "sessionAffinity": "None"}
    elif kind == "HTTPRoute":
        for parent in obj["spec"]["parentRefs"]:
            parent |= {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    return obj


@given(kinds)
def test_child_contains_itself(kind: str) -> None:
    assert contains(CHILDREN[kind], CHILDREN[kind])
    assert contains(json.loads(json.dumps(CHILDREN[kind])), CHILDREN[kind])


@given(kinds)
def test_child_is_contained_in_its_stored_form(kind: str) -> None:
    assert contains(served(kind), CHILDREN[kind])


@given(st.data())
def test_any_changed_leaf_is_a_difference(data: st.DataObject) -> None:
    kind = data.draw(kinds)
    path = data.draw(st.sampled_from(list(leaves(CHILDREN[kind]))))
    other = data.draw(st.sampled_from(["other", 17, 10_001, True, False, None, "", 2.5]))
    there = changed(served(kind), path, lambda value: assume_other(value, other))

    assert not contains(there, CHILDREN[kind])


def assume_other(value: Any, other: Any) -> Any:
    """Another value; for the API server, absent and false are equal."""
    assume(value != other or isinstance(value, bool) != isinstance(other, bool))
    assume(value not in (False, "") or other is not None)
    return other


@given(st.data())
def test_any_missing_leaf_is_a_difference(data: st.DataObject) -> None:
    kind = data.draw(kinds)
    obj = CHILDREN[kind]
    path = data.draw(st.sampled_from([path for path in leaves(obj) if isinstance(path[-1], str)]))
    there = served(kind)
    parent: Any = there
    wanted: Any = obj
    for step in path[:-1]:
        parent, wanted = parent[step], wanted[step]
    # The API server omits false and "" itself.
    assume(wanted[path[-1]] not in (False, ""))
    del parent[path[-1]]

    assert not contains(there, obj)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
def test_any_object_contains_itself(obj: Object) -> None:
    assert contains(obj, copy.deepcopy(obj))


@pytest.mark.parametrize(
    ("have", "want", "equal"),
    [
        ("1", "1000m", True),
        ("1", 1, True),
        ("1Gi", "1073741824", True),
        ("1Gi", "1024Mi", True),
        ("1k", "1e3", True),
        ("1", "1001m", False),
        ("1Gi", "1G", False),
        ("lots", "lots", True),
        ("lots", "1", False),
        (True, 1, False),
        (None, "1", False),
    ],
)
def test_quantities_are_compared_by_value(have: Any, want: Any, equal: bool) -> None:  # noqa: FBT001
    def deployment(cpu: Any) -> Object:
        return {"spec": {"containers": [{"name": "engine", "resources": {"limits": {"cpu": cpu}}}]}}

    assert contains(deployment(have), deployment(want)) is equal
    assert contains({"emptyDir": {"sizeLimit": have}}, {"emptyDir": {"sizeLimit": want}}) is equal


def test_text_outside_resources_is_not_a_quantity() -> None:
    def pod(value: str) -> Object:
        return {"env": [{"name": "WORKERS", "value": value}], "args": [value]}

    assert not contains(pod("1"), pod("1000m"))


def test_keyed_lists_are_compared_by_key_in_any_order() -> None:
    have = {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}, {"name": "C", "value": "3"}]}

    assert contains(have, {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]})
    assert not contains(have, {"env": [{"name": "D", "value": "1"}]})


def test_port_without_protocol_is_tcp() -> None:
    have = {"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}]}

    assert contains(have, {"ports": [{"containerPort": 80}]})
    assert not contains(have, {"ports": [{"containerPort": 80, "protocol": "SCTP"}]})


@pytest.mark.parametrize("have", [["b", "a"], ["a", "b", "c"], ["a"], "ab", None])
def test_other_lists_are_compared_as_a_whole(have: Any) -> None:
    assert not contains({"args": have}, {"args": ["a", "b"]})


# Fields that Serin has applied before and no longer renders.


def without(obj: Object, *path: str | int) -> Object:
    copied = copy.deepcopy(obj)
    below: Any = copied
    for step in path[:-1]:
        below = below[step]
    del below[path[-1]]
    return copied


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "hostnames"),
        ("spec", "rules", 0, "timeouts"),
        ("spec", "rules", 0, "backendRefs", 0),
        ("spec", "rules", 0, "filters"),
        ("spec", "rules", 0, "matches", 3),
    ],
)
def test_leftover_in_a_route_is_a_difference(path: tuple[str | int, ...]) -> None:
    assert not contains(served("HTTPRoute"), without(CHILDREN["HTTPRoute"], *path))


def test_foreign_addition_to_a_route_is_a_difference() -> None:
    mirrored = served("HTTPRoute")
    mirrored["spec"]["rules"][0]["filters"] = [{"type": "RequestMirror"}]

    assert not contains(mirrored, CHILDREN["HTTPRoute"])


def test_route_defaults_are_no_difference() -> None:
    have = served("HTTPRoute")
    bare = copy.deepcopy(CHILDREN["HTTPRoute"])
    for backend in bare["spec"]["rules"][0]["backendRefs"]:
        del backend["group"], backend["kind"]
    for match in bare["spec"]["rules"][0]["matches"]:
        del match["path"]["type"]

    assert contains(have, bare)


def test_route_value_other_than_default_is_a_difference() -> None:
    assert not contains(
        served("HTTPRoute"), without(CHILDREN["HTTPRoute"], "spec", "rules", 0, "backendRefs", 1, "weight")
    )


def test_unwanted_serin_annotation_is_a_difference() -> None:
    want = without(CHILDREN["ControllerRevision"], "metadata", "annotations", "serin.dev/trial")

    assert not contains(served("ControllerRevision"), want)
    assert not contains(served("ControllerRevision"), without(want, "metadata", "annotations"))


def test_foreign_labels_and_annotations_are_no_difference() -> None:
    have = served("ControllerRevision")
    have["metadata"]["annotations"]["kubectl.kubernetes.io/x"] = "y"
    have["metadata"]["labels"]["team"] = "support"

    assert contains(have, CHILDREN["ControllerRevision"])


def managed(fields: Object, **entry: str) -> Object:
    """A Deployment whose managedFields say that Serin has applied `fields`."""
    obj = served("Deployment")
    note = {"manager": "serin", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}
    obj["metadata"]["managedFields"] = [note | entry]
    return obj


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"f:spec": {"f:replicas": {}}}, True),
        ({"f:spec": {"f:paused": {}}}, False),
        ({"f:metadata": {"f:labels": {"f:team": {}}}}, False),
        ({"f:metadata": {"f:annotations": {".": {}, "f:a/b": {}}}}, False),
        ({"f:metadata": {"f:ownerReferences": {'k:{"uid":"other"}': {}}}}, False),
        ({"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"engine"}': {".": {}}}}}}}, True),
        ({"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"gone"}': {".": {}}}}}}}, False),
        ({"f:metadata": {"f:finalizers": {'v:"serin.dev/x"': {}}}}, False),
    ],
    ids=["wanted", "field", "label", "annotation", "item", "wanted-item", "container", "value"],
)
def test_applied_field_no_longer_wanted_is_a_difference(fields: Object, same: bool) -> None:  # noqa: FBT001
    assert contains(managed(fields), CHILDREN["Deployment"]) is same


@pytest.mark.parametrize(
    "entry", [{"manager": "kubectl"}, {"operation": "Update"}, {"subresource": "status"}], ids=lambda e: next(iter(e))
)
def test_fields_of_other_managers_are_no_difference(entry: dict[str, str]) -> None:
    assert contains(managed({"f:spec": {"f:paused": {}}}, **entry), CHILDREN["Deployment"])


def test_foreign_serin_label_is_kept_if_ownership_is_known() -> None:
    """Applying would not remove it, so it must not count as a difference, or every reconcile would write."""
    have = managed({"f:spec": {"f:replicas": {}}})
    have["metadata"]["annotations"]["serin.dev/note"] = "written by hand"

    assert contains(have, CHILDREN["Deployment"])


def test_resource_version_is_part_of_the_comparison() -> None:
    want = copy.deepcopy(CHILDREN["HTTPRoute"])
    want["metadata"]["resourceVersion"] = "7"
    assert contains(served("HTTPRoute"), want)

    want["metadata"]["resourceVersion"] = "8"
    assert not contains(served("HTTPRoute"), want)
