"""The page of `make bench-model-server`, and the requests of its cases."""

from __future__ import annotations

import json

import pytest

from bench.model_server.__main__ import _HEAD, RESULTS
from bench.model_server.alone import costs
from bench.model_server.cases import CASES, SYSTEM, Body, Case
from bench.sections import joined
from model_server.serin_model_server.document import parse


def test_stored_page_is_read_back_as_it_is() -> None:
    stored = RESULTS.read_text()
    assert stored.endswith(joined(stored, {}, [case.title for case in CASES.values()]) + "\n")
    assert stored.startswith(_HEAD.split("\n\nvLLM")[0])


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_pod_accepts_the_split_document_of_a_case(case: Case) -> None:
    document = parse(case.split)
    assert (bool(document.prompts), bool(document.checks)) == (bool(case.prompt), bool(case.checks))


@pytest.mark.parametrize("body", CASES["prompt"].bodies, ids=lambda body: body.name)
@pytest.mark.parametrize("system", [None, SYSTEM], ids=["without", "with"])
def test_body_has_its_size(body: Body, system: str | None) -> None:
    made = body.made(7, system=system)
    assert body.size - 6 < len(made) <= body.size
    assert len(json.loads(made)["messages"]) == (2 if system else 1)
    assert (made.count(b"\\u00e9") > 1000) is body.escaped


def test_middleware_alone_has_a_cost_for_each_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.model_server.alone.ROUNDS", 1)
    monkeypatch.setattr("bench.model_server.alone.REQUESTS", 5)
    assert [cost.body for cost in costs(CASES["checks"])] == list(CASES["checks"].bodies)
