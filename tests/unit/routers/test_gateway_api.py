"""Conversion of a split to an HTTPRoute and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.rollout.snapshot import NO_ROUTE
from serin.routers.gateway_api import SERVED_PATHS, GatewayApiRouter
from serin.routers.port import Router
from tests.unit.manifests.samples import OWNER, make_spec

STABLE, CANARY, EPOCH = "0000000000", "abcdef0123", 7
ROUTER: Router = GatewayApiRouter()


def rendered(weights: dict[str, int] | None = None, **gateway: Any) -> dict[str, Any]:
    spec = make_spec(routing={"gateway": gateway})
    return ROUTER.render(OWNER, spec.routing, weights or {STABLE: 9500, CANARY: 500}, EPOCH)


def rule_of(route: dict[str, Any]) -> dict[str, Any]:
    (rule,) = route["spec"]["rules"]
    assert isinstance(rule, dict)
    return rule


def condition(kind: str, status: str = "True", generation: int = 4, **more: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "observedGeneration": generation} | more


FINE = [condition("Accepted"), condition("ResolvedRefs")]


def answered(*parents: tuple[dict[str, Any], list[dict[str, Any]]], refs: Any = None) -> dict[str, Any]:
    """A route at generation 4 with the given status of its parents."""
    route = rendered(parentRefs=refs or [{"name": "llm"}])
    route["metadata"]["generation"] = 4
    route["status"] = {"parents": [{"parentRef": ref, "conditions": said} for ref, said in parents]}
    return route


# Rendering.


def test_route_has_a_weighted_backend_per_revision() -> None:
    backends = rule_of(rendered())["backendRefs"]

    assert [(b["name"], b["port"], b["weight"]) for b in backends] == [
        ("triage-0000000000", 8000, 9500),
        ("triage-abcdef0123", 8000, 500),
    ]


def test_backend_with_weight_0_is_rendered() -> None:
    backends = rule_of(rendered({STABLE: 10_000, CANARY: 0}))["backendRefs"]

    assert [b["weight"] for b in backends] == [10_000, 0]


def test_backend_adds_its_revision_to_request_and_response() -> None:
    name, epoch = {"name": "x-serin-revision", "value": CANARY}, {"name": "x-serin-epoch", "value": "7"}

    assert rule_of(rendered())["backendRefs"][1]["filters"] == [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [name, epoch]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [name]}},
    ]


def test_all_backends_add_the_epoch_to_requests_only() -> None:
    for backend in rule_of(rendered({STABLE: 5_000, CANARY: 5_000, "1111111111": 0}))["backendRefs"]:
        request, response = backend["filters"]
        assert {"name": "x-serin-epoch", "value": "7"} in request["requestHeaderModifier"]["set"]
        assert "x-serin-epoch" not in str(response)


def test_default_matches_are_inference_paths_only() -> None:
    matches = rule_of(rendered())["matches"]

    assert [match["path"]["value"] for match in matches] == list(SERVED_PATHS)
    assert {match["path"]["type"] for match in matches} == {"PathPrefix"}


@pytest.mark.parametrize("private", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/metrics", "/health", "/v1"])
def test_administration_paths_are_not_routed(private: str) -> None:
    assert not any(f"{private}/".startswith(f"{path}/") for path in SERVED_PATHS)


def test_user_matches_and_filters_are_passed_through() -> None:
    matches = [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x-team", "value": "a"}]}]
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-debug"]}}]
    rule = rule_of(rendered(matches=matches, filters=filters))

    assert rule["matches"] == matches
    assert rule["filters"] == filters
    assert len(rule["backendRefs"][0]["filters"]) == 2


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ({}, {"request": "0s"}),
        ({"backendRequest": "30s"}, {"request": "0s", "backendRequest": "30s"}),
        ({"request": "5m"}, {"request": "5m"}),
    ],
)
def test_default_request_timeout_is_off(timeouts: dict[str, str], expected: dict[str, str]) -> None:
    assert rule_of(rendered(timeouts=timeouts))["timeouts"] == expected


def test_hostnames_and_parents_come_from_the_spec() -> None:
    parent = {"name": "llm", "namespace": "gateway", "sectionName": "http", "port": 8080}
    route = rendered(parentRefs=[parent], hostnames=["a.example.com"])

    assert route["spec"]["parentRefs"] == [parent]
    assert route["spec"]["hostnames"] == ["a.example.com"]
    assert route["metadata"]["name"] == "triage"


def test_absent_optional_fields_are_not_rendered() -> None:
    route = rendered()

    assert "hostnames" not in route["spec"]
    assert "filters" not in rule_of(route)


@pytest.mark.parametrize("weights", [{STABLE: 9999}, {STABLE: 10_001}, {STABLE: 10_500, CANARY: -500}])
def test_invalid_weights_are_an_error(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="are not a split"):
        rendered(weights)


def test_empty_weights_are_an_error() -> None:
    with pytest.raises(ValueError, match="are not a split"):
        ROUTER.render(OWNER, make_spec().routing, {}, 0)


# Reading.


@given(st.integers(0, 10_000))
def test_rendered_split_is_read_back(canary: int) -> None:
    weights = {STABLE: 10_000 - canary, CANARY: canary}

    assert ROUTER.read(rendered(weights), "triage").weights == weights


@pytest.mark.parametrize("epoch", [0, 9, 10, 31])
def test_rendered_epoch_is_read_back(epoch: int) -> None:
    assert ROUTER.read(ROUTER.render(OWNER, make_spec().routing, {STABLE: 10_000}, epoch), "triage").epoch == epoch


@pytest.mark.parametrize(
    ("stamps", "epoch"),
    [
        (["7", "7"], 7),
        (["7", "8"], None),
        (["7", None], None),
        ([None, None], None),
        (["32", "32"], None),
        (["-1", "-1"], None),
        (["07", "07"], None),
        (["x", "x"], None),
        (["", ""], None),
        (["²", "²"], None),
    ],
    ids=["alike", "mixed", "missing", "none", "off the ring", "negative", "padded", "text", "empty", "superscript"],
)
def test_edited_epoch_is_not_an_epoch(stamps: list[str | None], epoch: int | None) -> None:
    route = rendered()
    for backend, stamp in zip(rule_of(route)["backendRefs"], stamps, strict=True):
        headers = backend["filters"][0]["requestHeaderModifier"]["set"]
        headers[:] = [headers[0], *([{"name": "X-Serin-Epoch", "value": stamp}] if stamp is not None else [])]
    assert ROUTER.read(route, "triage").epoch == epoch


def test_route_without_filters_has_no_epoch() -> None:
    assert ROUTER.read({"metadata": {}, "spec": {}}, "triage").epoch is None
    assert ROUTER.read(None, "triage").epoch is None


def test_missing_object_is_no_route() -> None:
    assert ROUTER.read(None, "triage") == NO_ROUTE


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"triage-a": 1, "triage-b": 1}, {"a": 5000, "b": 5000}),
        ({"triage-a": None, "triage-b": 3}, {"a": 2500, "b": 7500}),
        ({"triage-a": 50, "other-x": 50}, {"a": 5000}),
        ({"triage-a": 999_999, "triage-b": 1}, {"a": 10_000, "b": 1}),
        ({"triage-a": 0, "triage-b": 0}, {"a": 0, "b": 0}),
        ({}, {}),
    ],
    ids=["ones", "default-weight", "foreign-backend", "a-trace", "zeros", "none"],
)
def test_foreign_weights_are_read_as_shares(written: dict[str, int | None], read: dict[str, int]) -> None:
    backends = [{"name": name} | ({} if weight is None else {"weight": weight}) for name, weight in written.items()]
    route = rendered()
    rule_of(route)["backendRefs"] = backends

    assert ROUTER.read(route, "triage").weights == read


def test_route_without_rules_has_no_weights() -> None:
    assert ROUTER.read({"metadata": {}, "spec": {}}, "triage").weights == {}


@pytest.mark.parametrize(
    ("parents", "programmed"),
    [
        ([({"name": "llm"}, FINE)], True),
        ([({"name": "llm", "namespace": "default", "kind": "Gateway"}, FINE)], True),
        ([({"group": "gateway.networking.k8s.io", "name": "llm"}, FINE)], True),
        ([], False),
        ([({"name": "other"}, FINE)], False),
        ([({"name": "llm", "namespace": "elsewhere"}, FINE)], False),
        ([({"name": "llm", "sectionName": "http"}, FINE)], False),
        ([({"name": "llm"}, FINE[:1])], False),
        ([({"name": "llm"}, [condition("Accepted", generation=3), condition("ResolvedRefs")])], False),
        ([({"name": "llm"}, [condition("Accepted", "Unknown"), condition("ResolvedRefs")])], False),
        ([({"name": "llm"}, [condition("Accepted", "False")]), ({"name": "llm"}, FINE)], True),
    ],
    ids=[
        "fine",
        "defaults-spelled-out",
        "group-spelled-out",
        "nobody-answered",
        "another-gateway",
        "another-namespace",
        "another-listener",
        "one-condition-only",
        "last-generation",
        "pending",
        "two-controllers",
    ],
)
def test_programmed_requires_accepted_and_resolved_at_this_generation(parents: Any, programmed: bool) -> None:  # noqa: FBT001
    assert ROUTER.read(answered(*parents), "triage").programmed is programmed


def test_programmed_requires_every_parent() -> None:
    refs = [{"name": "llm"}, {"name": "llm", "sectionName": "https"}]

    assert not ROUTER.read(answered(({"name": "llm"}, FINE), refs=refs), "triage").programmed
    assert ROUTER.read(answered(*((ref, FINE) for ref in refs), refs=refs), "triage").programmed


def test_rejection_by_gateway_is_quoted() -> None:
    said = [
        condition("Accepted", "False", reason="NoMatchingParent", message="No listeners match this parent ref."),
        condition("ResolvedRefs"),
    ]
    view = ROUTER.read(answered(({"name": "llm"}, said)), "triage")

    assert not view.programmed
    assert view.refused == (
        "Gateway llm rejects the route (NoMatchingParent: No listeners match this parent ref); "
        "correct spec.routing or the Gateway."
    )


@pytest.mark.parametrize(
    "said",
    [
        [condition("Accepted", "False", generation=3, reason="Old")],
        [condition("Accepted", "Unknown", reason="Pending")],
        [condition("PartiallyInvalid", "False", reason="Other")],
        FINE,
    ],
    ids=["last-generation", "pending", "another-condition", "fine"],
)
def test_outdated_rejection_is_not_quoted(said: list[dict[str, Any]]) -> None:
    assert ROUTER.read(answered(({"name": "llm"}, said)), "triage").refused is None


def test_change_time_is_that_of_the_last_apply_by_serin() -> None:
    route = rendered()
    route["metadata"]["managedFields"] = [
        {"manager": "serin", "operation": "Apply", "time": "2026-05-04T12:00:05Z"},
        {"manager": "serin", "operation": "Apply", "time": "2026-05-04T12:00:00Z"},
        {"manager": "serin", "operation": "Apply", "time": "2026-05-04T12:09:00Z", "subresource": "status"},
        {"manager": "serin", "operation": "Update", "time": "2026-05-04T12:09:00Z"},
        {"manager": "contour", "operation": "Apply", "time": "2026-05-04T12:09:00Z"},
        {"manager": "serin", "operation": "Apply"},
    ]

    assert ROUTER.read(route, "triage").changed_at == datetime(2026, 5, 4, 12, 0, 5, tzinfo=UTC)


def test_route_never_applied_by_serin_has_no_change_time() -> None:
    assert ROUTER.read(rendered(), "triage").changed_at is None
