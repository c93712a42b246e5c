"""What the operator writes into a split document and onto the route is what the middleware reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

from docs.reference.content_hash_page import VECTORS, spec_of
from model_server.serin_model_server import channel, document, selection
from serin.api import names
from serin.api.content_hash import content_hash
from serin.api.prompt_settings import Extra, Parameters
from serin.manifests.served_prompt import served_prompts
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
    make_resolved,
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


EVERY_PARAMETER = {
    "temperature": 0.1,
    "topP": 0.9,
    "maxTokens": 64,
    "stop": ["\n"],
    "seed": 7,
    "extra": {
        **dict.fromkeys(("top_k", "min_tokens", "thinking_token_budget"), 8),
        **dict.fromkeys(("min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"), 0.5),
        **dict.fromkeys(("ignore_eos", "parallel_tool_calls", "skip_special_tokens"), True),
        "include_stop_str_in_output": False,
        "stop_token_ids": [2],
        "logit_bias": {"50256": -100},
        "bad_words": ["maybe"],
        "reasoning_effort": "low",
    },
}
PROMPTS: dict[str, Mapping[str, Any]] = {
    **VECTORS,
    "every parameter": {"messages": [{"role": "system", "content": "Triage."}], "parameters": EVERY_PARAMETER},
}


@pytest.mark.parametrize("name", PROMPTS)
def test_middleware_takes_prompts_of_the_operator(name: str) -> None:
    content = {"prompt": "triage", "version": "1.0.0", **PROMPTS[name]}
    resolved = make_resolved(prompt_hash=content_hash(spec_of(content)), prompt_content=content)
    prompts = dict.fromkeys((REVISION, OTHER), served_prompts(resolved))
    facts: dict[str, Any] = {"shares": ((REVISION, 9_500), (OTHER, 500)), "salt": OTHER, "epoch": 7}
    for key in (None, {"header": "x-session-id"}, {"conversation": {}}):
        written = make_document(prompts=prompts, key=key, access_log=True, **facts)

        assert document.parse(written.to_json().encode()).digest == written.digest


def test_every_parameter_of_the_api_is_tried() -> None:
    assert EVERY_PARAMETER.keys() == {field.alias for field in Parameters.model_fields.values()}
    assert EVERY_PARAMETER["extra"].keys() == Extra.model_fields.keys()  # type: ignore[attr-defined]
    assert spec_of(PROMPTS["every parameter"]).parameters
