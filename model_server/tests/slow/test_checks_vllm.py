"""Checks in a real vLLM: what is read off its answers in every shape, and that no answer waits for a check."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from model_server.serve import MODEL, Server, serving
from model_server.tests.prompting.prompts import content
from model_server.tests.split_documents import STABLE, raw

TICKET = [{"role": "user", "content": "Ticket 417: vpn issue for Ana, urgent."}]
SCHEMA = {
    "type": "object",
    "required": ["queue", "priority"],
    "properties": {"queue": {"type": "string", "pattern": "^[a-z]+$"}},
}
CHECKS: list[dict[str, Any]] = [
    {"name": "schema", "kind": "Schema"},
    {"name": "empty", "kind": "Empty"},
    {"name": "truncated", "kind": "Truncated"},
    {"name": "format", "kind": "Regex", "pattern": "^{.*}$"},
    {"name": "network", "kind": "Contains", "texts": ["network"]},
]
PATIENCE = 30
CUT = 3
"""Tokens: fewer than the answer has."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("vllm")
    # Prompts are not applied: the schema is there for the check only, and the model answers in JSON by itself.
    revisions = [{"revision": STABLE, "weight": 10_000, "prompts": {"triage": content(outputSchema=SCHEMA)}}]
    split = raw(epoch=7, revisions=revisions, checks=CHECKS)
    with serving(scratch, "--max-model-len=256", "--api-server-count=1", middleware=True, split=split) as server:
        yield server


def counts(server: Server) -> dict[tuple[str, str], float]:
    """Results by check and result."""
    found = {}
    for check in (check["name"] for check in CHECKS):
        for result in ("pass", "fail", "skipped"):
            labels = f'check="{check}",epoch="7",result="{result}",revision="{STABLE}"'
            name = f"serin_checks_total{{{labels}}}"
            found[check, result] = server.samples(name).get(name, 0.0)
    return found


def asked(server: Server, path: str, body: dict[str, Any]) -> dict[tuple[str, str], float]:
    """What one answer adds to the counts."""
    before = counts(server)
    status, answer = server.post(path, {"model": MODEL} | body)
    assert status == 200, answer
    until = time.monotonic() + PATIENCE
    while sum(counts(server).values()) < sum(before.values()) + len(CHECKS):
        assert time.monotonic() < until, f"{answer!r} was not checked within {PATIENCE} s"
        time.sleep(0.1)
    return {place: n - before[place] for place, n in counts(server).items() if n != before[place]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/chat/completions", {"messages": TICKET}, "max_tokens"),
        ("/v1/messages", {"messages": TICKET}, "max_tokens"),
        ("/v1/responses", {"input": TICKET}, "max_output_tokens"),
    ],
    ids=["chat", "messages", "responses"],
)
def test_answer_is_checked_in_every_shape(
    server: Server, path: str, body: dict[str, Any], limit: str, *, stream: bool
) -> None:
    whole = asked(server, path, body | {"stream": stream, "temperature": 0, limit: 60})
    assert whole == {(check["name"], "pass"): 1 for check in CHECKS}
    cut = asked(server, path, body | {"stream": stream, "temperature": 0, limit: CUT})
    assert {name for name, result in cut if result == "fail"} >= {"schema", "truncated", "format"}
    assert cut["empty", "pass"] == 1


def test_length_of_answers_is_counted(server: Server) -> None:
    name = f'serin_output_tokens_count{{epoch="7",revision="{STABLE}"}}'
    for _ in range(25):
        server.post("/v1/completions", {"model": MODEL, "prompt": "vpn", "max_tokens": 4, "ignore_eos": True})
    assert server.samples(name)[name] > 0


def test_nothing_failed_in_the_middleware(server: Server) -> None:
    assert server.samples("serin_middleware_failures_total") == {"serin_middleware_failures_total": 0.0}
