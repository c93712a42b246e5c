"""Conversion of a split to an HTTPRoute and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.manifests.split_document import token_of
from serin.rollout.snapshot import NO_ROUTE
from serin.routers.gateway_api import SERVED_PATHS, GatewayApiRouter
from serin.routers.port import Backend, Router
from tests.unit.manifests.samples import OWNER, make_spec

STABLE, CANARY, EPOCH = "0000000000", "abcdef0123", 7
SEQUENCE = 71
STAMP = {"name": "x-serin-epoch", "value": f"{EPOCH}.{token_of(OWNER)}"}
ROUTER: Router = GatewayApiRouter()


def rendered(
    weights: dict[str, int] | None = None, legacy: tuple[str, ...] = (), *, reveal: bool = False, **gateway: Any
) -> dict[str, Any]:
    """A route whose backends read the split document, except those in `legacy`."""
    spec = make_spec(routing={"gateway": gateway, "revealRevision": reveal})
    split = weights or {STABLE: 9500, CANARY: 500}
    backends = [Backend(name, weight, name if name in legacy else None) for name, weight in split.items()]
    return ROUTER.render(OWNER, spec.routing, backends, SEQUENCE)


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


def test_one_filter_of_the_rule_stamps_every_request() -> None:
    rule = rule_of(rendered())

    assert rule["filters"] == [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [STAMP], "remove": ["x-serin-revision", "x-serin-pin"]},
        }
    ]
    assert not any("filters" in backend for backend in rule["backendRefs"])


def test_backends_keep_the_order_that_they_are_given_in() -> None:
    route = rendered({CANARY: 500, STABLE: 9500})

    assert [b["name"] for b in rule_of(route)["backendRefs"]] == [f"triage-{CANARY}", f"triage-{STABLE}"]


def test_route_with_a_legacy_backend_stamps_each_backend_in_its_own_way() -> None:
    rule = rule_of(rendered(legacy=(STABLE,)))
    name = {"name": "x-serin-revision", "value": STABLE}

    assert "filters" not in rule
    assert [backend["filters"] for backend in rule["backendRefs"]] == [
        [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [name, {"name": "x-serin-epoch", "value": "7"}]},
            }
        ],
        [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [STAMP], "remove": ["x-serin-revision"]},
            }
        ],
    ]


@pytest.mark.parametrize("reveal", [False, True])
def test_gateway_reveals_only_revisions_of_legacy_pods(*, reveal: bool) -> None:
    backends = rule_of(rendered(legacy=(STABLE,), reveal=reveal))["backendRefs"]

    assert [f["type"] for f in backends[0]["filters"]].count("ResponseHeaderModifier") == reveal
    assert "ResponseHeaderModifier" not in str(backends[1])
    assert "ResponseHeaderModifier" not in str(rendered(reveal=reveal))


def test_default_matches_are_exactly_the_inference_paths() -> None:
    matches = rule_of(rendered())["matches"]

    assert [match["path"]["value"] for match in matches] == list(SERVED_PATHS)
    assert {match["path"]["type"] for match in matches} == {"Exact"}


@pytest.mark.parametrize("private", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/metrics", "/health", "/v1"])
def test_administration_paths_are_not_routed(private: str) -> None:
    assert not any(f"{private}/".startswith(f"{path}/") for path in SERVED_PATHS)


def test_user_matches_are_passed_through() -> None:
    matches = [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "x-team", "value": "a"}]}]

    assert rule_of(rendered(matches=matches))["matches"] == matches


def test_stamp_is_merged_into_the_users_request_filter() -> None:
    """A rule may have only one filter of its type."""
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shadow", "port": 80}}}
    theirs = {
        "set": [{"name": "x-team", "value": "a"}],
        "add": [{"name": "x-seen", "value": "1"}],
        "remove": ["x-debug"],
    }
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": theirs}, mirror]
    rule = rule_of(rendered(filters=filters))

    assert rule["filters"] == [
        {
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {
                "set": [{"name": "x-team", "value": "a"}, STAMP],
                "add": [{"name": "x-seen", "value": "1"}],
                "remove": ["x-debug", "x-serin-revision", "x-serin-pin"],
            },
        },
        mirror,
    ]
    assert rule_of(rendered(legacy=(STABLE,), filters=filters))["filters"] == filters


@pytest.mark.parametrize("legacy", [(), (STABLE,)], ids=["documents", "legacy"])
@pytest.mark.parametrize("name", ["x-serin-epoch", "X-Serin-Epoch", "x-serin-revision", "x-serin-pin"])
@pytest.mark.parametrize("action", ["set", "add", "remove"])
def test_headers_of_serin_in_a_users_filter_have_no_effect(action: str, name: str, legacy: tuple[str, ...]) -> None:
    header: Any = name if action == "remove" else {"name": name, "value": "7"}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {action: [header]}}]

    assert rendered(legacy=legacy, filters=filters) == rendered(legacy=legacy)


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


@pytest.mark.parametrize("weights", [{STABLE: 9999}, {STABLE: 10_001}, {STABLE: 10_500, CANARY: -500}])
def test_invalid_weights_are_an_error(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="are not a split"):
        rendered(weights)


def test_empty_weights_are_an_error() -> None:
    with pytest.raises(ValueError, match="are not a split"):
        ROUTER.render(OWNER, make_spec().routing, [], 0)


# Reading.


@given(st.integers(0, 10_000))
def test_rendered_split_is_read_back(canary: int) -> None:
    weights = {STABLE: 10_000 - canary, CANARY: canary}

    assert ROUTER.read(rendered(weights), "triage").weights == weights


@pytest.mark.parametrize("legacy", [None, STABLE])
@pytest.mark.parametrize("sequence", [0, 9, 10, 31, 32, 71])
def test_rendered_number_and_epoch_are_read_back(sequence: int, legacy: str | None) -> None:
    route = ROUTER.render(OWNER, make_spec().routing, [Backend(STABLE, 10_000, legacy)], sequence)
    view = ROUTER.read(route, "triage")

    assert (view.sequence, view.epoch, view.backends) == (sequence, sequence % 32, (STABLE,))


@pytest.mark.parametrize(
    ("annotation", "sequence"),
    [("71", 71), (None, 7), ("70", 71), ("72", 103), ("", 7), ("-1", 7), ("x", 7), ("9" * 40, 7)],
    ids=["right", "removed", "behind", "ahead", "empty", "negative", "text", "endless"],
)
def test_number_of_the_split_fits_the_epoch_in_force(annotation: str | None, sequence: int) -> None:
    """Whatever a person did to the annotation, the next number gives another epoch."""
    route = rendered()
    route["metadata"]["annotations"] = {} if annotation is None else {"serin.dev/sequence": annotation}

    assert (ROUTER.read(route, "triage").sequence, sequence % 32) == (sequence, EPOCH)


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
    route = rendered(legacy=(STABLE, CANARY))
    for backend, stamp in zip(rule_of(route)["backendRefs"], stamps, strict=True):
        headers = backend["filters"][0]["requestHeaderModifier"]["set"]
        headers[:] = [headers[0], *([{"name": "X-Serin-Epoch", "value": stamp}] if stamp is not None else [])]
    assert ROUTER.read(route, "triage").epoch == epoch


def test_epoch_of_the_rule_counts_because_it_is_set_last() -> None:
    route = rendered(legacy=(STABLE, CANARY))
    rule_of(route)["filters"] = rule_of(rendered())["filters"]
    rule_of(route)["filters"][0]["requestHeaderModifier"]["set"][0]["value"] = "9.abc"

    assert ROUTER.read(route, "triage").epoch == 9


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
