"""What the operator writes into a split document and onto the route is what the middleware reads."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from model_server.serin_model_server import channel, document, selection
from serin.api import names
from serin.manifests.split_document import SplitDocument, token_of
from serin.routers.gateway_api import GatewayApiRouter
from serin.routers.port import Backend
from tests.unit.manifests.samples import (
    ENGINE_REVISION,
    OWNER,
    REVISION,
    WITH_MODEL_SERVER,
    engine_of,
    make_document,
    make_spec,
    make_template,
)

OTHER = "1111111111"
MEASURE = {"load": {"from": 1.0, "ratio": 1.3}, "boundaries": {"ttft": [0.21, 0.35, 0.8]}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reveal": True, "measure": MEASURE},
        {"sequence": 2**53, "shares": ((REVISION, 10_000), (OTHER, 0)), "salt": OTHER, "epoch": 0},
        {"sequence": 63, "shares": ((REVISION, 9_500), (OTHER, 500)), "salt": OTHER, "epoch": 31},
    ],
    ids=["gateway", "measured", "entering", "pods"],
)
def test_middleware_takes_the_document_of_the_operator(changes: dict[str, Any]) -> None:
    written: SplitDocument = make_document(**changes)
    read = document.parse(written.to_json().encode())

    assert read.digest == written.digest
    assert read.sequence == written.sequence
    assert read.epoch == (None if written.epoch is None else str(written.epoch))
    assert read.revisions == tuple(revision for revision, _ in written.shares)
    assert read.canary_weight == dict(written.shares).get(OTHER, 0)
    assert (read.token.decode(), read.reveal) == (written.token, written.reveal)


def test_stamp_of_the_route_counts_in_the_middleware() -> None:
    route = GatewayApiRouter().render(OWNER, make_spec().routing, [Backend(ENGINE_REVISION, 10_000)], sequence=71)
    (wanted,) = route["spec"]["rules"][0]["filters"]
    headers = [(h["name"].encode(), h["value"].encode()) for h in wanted["requestHeaderModifier"]["set"]]
    read = document.parse(make_document().to_json().encode())

    assert selection.select(headers, read).identity == (REVISION, "7")
    other = document.parse(make_document(token="0" * 16).to_json().encode())
    assert selection.select(headers, other).identity == (REVISION, "none")
    assert token_of(OWNER) != "0" * 16


def test_pod_finds_the_document_where_the_operator_mounts_it() -> None:
    engine = engine_of(make_template(defaults=WITH_MODEL_SERVER))
    variables = {entry["name"]: entry.get("value") for entry in engine["env"]}
    path = PurePosixPath(variables[channel.PATH_VARIABLE])

    assert (str(path.parent), path.name) == (names.SPLIT_DIRECTORY, names.SPLIT_KEY)
    assert names.SPLIT_VARIABLE == channel.PATH_VARIABLE


def test_middleware_takes_prompts_of_the_operator() -> None:
    message = {"role": "system", "content": "Triage, naïvely."}
    prompt = {"version": "1.0.0", "hash": "0" * 12, "messages": [message], "parameters": {"temperature": 0.1}}
    written = make_document(prompts={REVISION: {"triage": prompt}})

    assert document.parse(written.to_json().encode()).digest == written.digest
