"""The split by revision, from and to route and documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.manifests.split_document import SplitDocument
from serin.rollout.decision import Decision
from serin.rollout.phases import Phase
from serin.rollout.reasons import Reason
from serin.rollout.record import Record
from serin.rollout.snapshot import NO_ROUTE, RouteView, Snapshot
from serin.routers.port import Backend
from serin.routers.split import Carried, carried, combined
from tests.unit.rollout.cases import ENGINE, A, B, C, make_record, make_spec

READS_SPLIT = {
    "spec": {
        "containers": [
            {
                "name": "engine",
                "env": [{"name": "SERIN_SPLIT", "value": "x"}, {"name": "SERIN_PROMPTS", "value": "1"}],
                "volumeMounts": [{"name": "serin-split", "mountPath": "/etc/serin/split"}],
            }
        ]
    }
}
OLDER = {
    "spec": {
        "containers": [READS_SPLIT["spec"]["containers"][0] | {"env": [{"name": "SERIN_SPLIT", "value": "x"}]}],
    }
}
"""Pods that apply no prompts."""
TOKEN = "0" * 16


def modern(revision: str, **changes: Any) -> Record:
    return make_record(revision, **({"pod_template": READS_SPLIT} | changes))


STABLE, CANARY = modern(A, promotion=1), modern(B)
PROMPT = modern(C, engine_revision=ENGINE[A])
"""Another prompt in the pods of the stable."""
LEGACY = make_record(A, promotion=1)


def document(*shares: tuple[str, int], sequence: int = 5, epoch: int | None = None) -> SplitDocument:
    return SplitDocument(sequence, shares, shares[-1][0], TOKEN, epoch)


def route(weights: Mapping[str, int], sequence: int = 5) -> RouteView:
    return RouteView(weights, epoch=sequence % 32, sequence=sequence, backends=tuple(weights))


def decided(weights: Mapping[str, int], *records: Record, **facts: Any) -> Decision:
    stable, *canary = records
    engines = {record.engine_revision: 3 for record in records}
    base: dict[str, Any] = {
        "phase": Phase.RAMPING,
        "reason": Reason.SERVING,
        "message": "",
        "stable": stable,
        "canary": canary[0] if canary else None,
        "weights": weights,
        "engines": engines,
    }
    return Decision(**(base | facts))


def carry(
    decision: Decision,
    by_backend: RouteView,
    documents: Mapping[str, SplitDocument] | None = None,
    records: tuple[Record, ...] = (STABLE, CANARY, PROMPT),
    **routing: Any,
) -> Carried:
    existing = documents or {}
    view = combined(by_backend, existing, records)
    spec = make_spec(routing={"gateway": {"parentRefs": [{"name": "llm"}]}} | routing)
    snapshot = Snapshot(now=None, spec=spec, target=None, records=records, route=view)  # type: ignore[arg-type]
    return carried(snapshot, decision, by_backend, existing, token=TOKEN, measure=lambda _engine: None)


# From route and documents.


def test_backend_of_pods_with_a_document_has_the_revisions_of_the_document() -> None:
    documents = {
        ENGINE[A]: document((A, 9_000), (C, 1_000), sequence=9, epoch=9),
        ENGINE[B]: document((B, 10_000), sequence=7),
    }
    view = combined(route({ENGINE[A]: 8_000, ENGINE[B]: 2_000}), documents, (STABLE, CANARY, PROMPT))

    assert view.weights == {A: 7_200, C: 800, B: 2_000}
    assert (view.epoch, view.sequence, view.backends) == (9, 9, (ENGINE[A], ENGINE[B]))


def test_backend_of_older_pods_is_a_revision() -> None:
    view = combined(route({A: 9_500, ENGINE[B]: 500}), {ENGINE[B]: document((B, 10_000))}, (LEGACY, CANARY))

    assert (view.weights, view.epoch) == ({A: 9_500, B: 500}, 5)


@pytest.mark.parametrize("records", [(STABLE, PROMPT), (PROMPT, STABLE)])
def test_lost_document_means_the_stable(records: tuple[Record, ...]) -> None:
    assert combined(route({ENGINE[A]: 10_000}), {}, records).weights == {A: 10_000}


def test_lost_record_is_named_by_the_document() -> None:
    assert combined(route({ENGINE[A]: 10_000}), {ENGINE[A]: document((A, 10_000))}, ()).weights == {A: 10_000}
    assert combined(route({ENGINE[A]: 10_000}), {}, ()).weights == {ENGINE[A]: 10_000}


def test_number_is_the_highest_of_all_also_of_engines_outside_the_route() -> None:
    documents = {ENGINE[A]: document((A, 10_000), sequence=3), ENGINE[B]: document((B, 10_000), sequence=40)}
    view = combined(route({ENGINE[A]: 10_000}, sequence=38), documents, (STABLE, CANARY))

    assert (view.sequence, view.epoch) == (40, 6)
    assert combined(NO_ROUTE, {}, ()) == NO_ROUTE


# To route and documents.


def test_gateway_splits_between_engines() -> None:
    decision = decided({A: 7_500, B: 2_500}, STABLE, CANARY, sequence=6)
    documents = {ENGINE[A]: document((A, 10_000), sequence=1), ENGINE[B]: document((B, 10_000), sequence=2)}
    plan = carry(decision, route({ENGINE[A]: 9_500, ENGINE[B]: 500}), documents)

    assert plan.backends == (Backend(ENGINE[A], 7_500), Backend(ENGINE[B], 2_500))
    assert plan.sequence == 6
    assert plan.documents == documents, "a step of a gateway canary needs no new document"


def test_pods_split_between_revisions_and_the_route_stays() -> None:
    decision = decided({A: 9_500, C: 500}, STABLE, PROMPT, sequence=6)
    plan = carry(decision, route({ENGINE[A]: 10_000}, sequence=3), {ENGINE[A]: document((A, 10_000), sequence=1)})

    assert (plan.backends, plan.sequence) == ((Backend(ENGINE[A], 10_000),), 3)
    assert plan.documents == {ENGINE[A]: SplitDocument(6, ((A, 9_500), (C, 500)), C, TOKEN, epoch=6)}


def test_each_revision_of_pods_that_apply_prompts_has_its_prompt() -> None:
    content = {"prompt": "triage", "version": "1.0.0", "messages": [{"role": "system", "content": "Triage."}]}
    served = {"triage": {"version": "1.0.0", "hash": "p", "messages": content["messages"]}}
    prompted = modern(C, engine_revision=ENGINE[A], prompt_name="t", prompt_hash="p", prompt_content=content)
    decision = decided({A: 9_500, C: 500}, STABLE, prompted, sequence=6)
    wanted = carry(decision, route({ENGINE[A]: 10_000}), records=(STABLE, prompted)).documents[ENGINE[A]]
    assert wanted.prompts == {C: served}
    same = carry(replace(decision, sequence=None), route({ENGINE[A]: 10_000}), {ENGINE[A]: wanted}, (STABLE, prompted))
    assert same.documents == {ENGINE[A]: wanted}

    before = modern(A, promotion=1, pod_template=OLDER, prompt_name="t", prompt_hash="p", prompt_content=content)
    plan = carry(decided({A: 10_000}, before), route({ENGINE[A]: 10_000}), records=(before,))
    assert plan.documents[ENGINE[A]].prompts == {}


@pytest.mark.parametrize(
    ("sticky", "key"),
    [
        (None, None),
        ({"header": "X-Session-Id"}, {"header": "x-session-id"}),
        ({"conversation": {}}, {"conversation": {}}),
    ],
)
def test_key_of_requests_is_what_the_spec_says(sticky: dict[str, Any] | None, key: dict[str, Any] | None) -> None:
    decision = decided({A: 9_500, C: 500}, STABLE, PROMPT, sequence=6)
    wanted = carry(decision, route({ENGINE[A]: 10_000}), sticky=sticky, accessLog=True).documents[ENGINE[A]]
    assert (wanted.key, wanted.access_log) == (key, True)
    # Pods that know neither get the document of before.
    older = modern(A, promotion=1, pod_template=OLDER)
    plan = carry(decided({A: 10_000}, older), route({ENGINE[A]: 10_000}), None, (older,), sticky=sticky, accessLog=True)
    assert plan.documents == {ENGINE[A]: document((A, 10_000))}


def test_end_of_a_split_in_pods_leaves_the_route_too() -> None:
    before = {ENGINE[A]: document((A, 0), (C, 10_000), sequence=8, epoch=8)}
    plan = carry(decided({C: 10_000}, PROMPT, sequence=9), route({ENGINE[A]: 10_000}, sequence=3), before)

    assert plan.sequence == 3
    assert plan.documents == {ENGINE[A]: document((C, 10_000), sequence=9)}


def test_unchanged_split_keeps_numbers_while_other_content_changes() -> None:
    before = {ENGINE[A]: replace(document((A, 9_500), (C, 500), sequence=8, epoch=8), token="f" * 16)}
    plan = carry(decided({A: 9_500, C: 500}, STABLE, PROMPT), route({ENGINE[A]: 10_000}, sequence=3), before)

    assert plan.documents == {ENGINE[A]: document((A, 9_500), (C, 500), sequence=8, epoch=8)}
    assert plan.sequence == 3


def test_order_and_salt_stay_when_the_canary_is_promoted() -> None:
    before = {ENGINE[A]: document((A, 4_000), (C, 6_000), sequence=8, epoch=8)}
    plan = carry(decided({A: 0, C: 10_000}, PROMPT, sequence=9), route({ENGINE[A]: 10_000}), before)

    assert plan.documents == {ENGINE[A]: document((A, 0), (C, 10_000), sequence=9, epoch=9)}


def test_third_revision_of_an_engine_replaces_the_one_that_leaves() -> None:
    third = modern("dddddddddd", engine_revision=ENGINE[A])
    before = {ENGINE[A]: document((A, 9_500), (C, 500), sequence=8, epoch=8)}
    decision = decided({A: 10_000, C: 0, "dddddddddd": 0}, STABLE, third, sequence=9)
    plan = carry(decision, route({ENGINE[A]: 10_000}), before, (STABLE, PROMPT, third))

    assert plan.documents[ENGINE[A]].shares == ((A, 10_000), ("dddddddddd", 0))


def test_backends_keep_their_order_and_newcomers_are_last() -> None:
    decision = decided({A: 10_000, B: 0}, STABLE, CANARY, sequence=6)

    newcomer = carry(decision, route({ENGINE[B]: 10_000, ENGINE[A]: 0})).backends
    assert [backend.name for backend in newcomer] == [ENGINE[B], ENGINE[A]]
    first = carry(decision, route({"zzz": 1, ENGINE[A]: 9_999})).backends
    assert [backend.name for backend in first] == [ENGINE[A], ENGINE[B]]


def test_older_pods_are_named_by_the_route() -> None:
    decision = decided({A: 9_500, B: 500}, LEGACY, CANARY, sequence=6)
    plan = carry(decision, route({A: 10_000}), records=(LEGACY, CANARY))

    assert plan.backends == (Backend(A, 9_500, A), Backend(ENGINE[B], 500))
    assert set(plan.documents) == {ENGINE[B]}


def test_document_exists_before_there_is_a_route() -> None:
    decision = decided({}, STABLE, target=STABLE)
    plan = carry(decision, NO_ROUTE)

    assert (plan.backends, plan.documents) == ((), {ENGINE[A]: document((A, 10_000), sequence=0)})


def test_draining_engine_keeps_its_document() -> None:
    before = {ENGINE[A]: document((A, 10_000)), ENGINE[B]: document((B, 10_000), sequence=2)}
    decision = decided({A: 10_000}, STABLE, engines={ENGINE[A]: 3, ENGINE[B]: 1})

    assert carry(decision, route({ENGINE[A]: 10_000}), before).documents == before


def test_revision_without_a_record_leaves_by_the_backend_of_its_document() -> None:
    before = {ENGINE[A]: document((A, 10_000)), ENGINE[B]: document((B, 10_000))}
    decision = decided({A: 10_000, B: 0}, STABLE, sequence=6)
    plan = carry(decision, route({ENGINE[A]: 9_500, ENGINE[B]: 500}), before, (STABLE,))

    assert plan.backends == (Backend(ENGINE[A], 10_000), Backend(ENGINE[B], 0))


@given(
    st.integers(0, 10_000).flatmap(lambda other: st.tuples(st.just(other), st.integers(0, 10_000 - other))),
    st.integers(0, 100),
)
def test_weights_are_read_back_as_they_were_decided(parts: tuple[int, int], sequence: int) -> None:
    other, prompt = parts
    weights = {A: 10_000 - other - prompt, B: other, C: prompt}
    records = (STABLE, CANARY, PROMPT)
    decision = decided(weights, STABLE, PROMPT, sequence=sequence, engines={ENGINE[A]: 3, ENGINE[B]: 1})
    plan = carry(decision, NO_ROUTE)
    written = route({backend.name: backend.weight for backend in plan.backends}, plan.sequence)
    view = combined(written, plan.documents, records)

    assert sum(backend.weight for backend in plan.backends) == 10_000
    assert {revision: weight for revision, weight in view.weights.items() if weight} == {
        revision: weight for revision, weight in weights.items() if weight
    }
    assert (view.epoch, view.sequence) == (sequence % 32, sequence)
