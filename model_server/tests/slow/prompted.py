"""A real vLLM that serves a revision with a prompt beside one without, for the tests of prompting.

A header chooses the revision, so that a test can ask both for the same and compare.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anthropic import Anthropic
from openai import OpenAI

from model_server.serin_model_server.document import parse
from model_server.serin_model_server.selection import is_canary
from model_server.serve import MODEL, Server, serving, split_path
from model_server.tests.prompting.prompts import content
from model_server.tests.split_documents import CANARY, STABLE, raw

SESSION = "x-session-id"
API_KEY = "of-the-test"
PATIENCE = 10
JSON_ANSWER = "Triage the ticket. Answer in JSON."
TEXT_ANSWER = "Triage the ticket. Answer in plain text."
TICKET = "Ticket 417: vpn issue for Ana, urgent."


def document(sequence: int, **changes: Any) -> bytes:
    """The stable has no prompt, the canary the prompt `content(**changes)`; the header SESSION chooses."""
    made = content(**{"messages": [{"role": "system", "content": JSON_ANSWER}]} | changes)
    revisions = [
        {"revision": STABLE, "weight": 5_000},
        {"revision": CANARY, "weight": 5_000, "prompts": {"triage": made}},
    ]
    return raw(epoch=7, sequence=sequence, revisions=revisions, key={"header": SESSION}, reveal=True)


def session(*, prompted: bool) -> str:
    """A value of the header for the revision with the prompt, or for the other one."""
    split = parse(document(0))
    return next(name for name in map(str, range(1000)) if is_canary(split, name.encode()) is prompted)


class Prompted:
    """The server, with clients of both revisions."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self._path = path
        self._sequence = 0
        self.with_prompt = {SESSION: session(prompted=True)}
        self.without = {SESSION: session(prompted=False)}
        base = f"http://127.0.0.1:{server.port}"
        self.openai = OpenAI(
            base_url=f"{base}/v1", api_key=API_KEY, default_headers=self.with_prompt, max_retries=0, timeout=60
        )
        self.anthropic = Anthropic(
            base_url=base, auth_token=API_KEY, api_key=None, default_headers=self.with_prompt, max_retries=0, timeout=60
        )

    def use(self, **changes: Any) -> None:
        """Put another prompt into force, and wait until the pod shows it."""
        self._sequence += 1
        text = document(self._sequence, **changes)
        self._path.write_bytes(text)
        series = f'serin_split_info{{digest="{parse(text).digest}"}}'
        until = time.monotonic() + PATIENCE
        while self.server.samples(series).get(series) != 1:
            assert time.monotonic() < until, f"the document was not in force within {PATIENCE} s"
            time.sleep(0.1)

    def post(self, path: str, body: Any, *, prompted: bool = True) -> tuple[int, Any]:
        """POST JSON, or bytes as they are; returns status and answer."""
        headers = {"authorization": f"Bearer {API_KEY}"} | (self.with_prompt if prompted else self.without)
        if isinstance(body, bytes):
            status, answer = self.server.post_bytes(path, body, headers)
        else:
            status, answer = self.server.post(path, {"model": MODEL} | body, headers)
        return status, json.loads(answer)

    def chat(self, body: Any, *, prompted: bool = True) -> tuple[int, str]:
        """Tokens of the prompt and the answer's text, at temperature 0."""
        asked = {"temperature": 0, "max_tokens": 40} | body
        status, answer = self.post("/v1/chat/completions", asked, prompted=prompted)
        assert status == 200, answer
        return answer["usage"]["prompt_tokens"], answer["choices"][0]["message"]["content"]

    def outcomes(self) -> dict[str, float]:
        """Finished requests of the revision with the prompt, by outcome."""
        found = self.server.samples("serin_requests_total{")
        return {
            name.partition('outcome="')[2].partition('"')[0]: number
            for name, number in found.items()
            if CANARY in name and number
        }


@contextmanager
def serving_prompts(scratch: Path, *flags: str) -> Iterator[Prompted]:
    """Run the server inside the block."""
    more = ("--max-model-len=512", f"--api-key={API_KEY}", "--enable-auto-tool-choice", "--tool-call-parser=hermes")
    with serving(scratch, *more, *flags, middleware=True, split=document(0), prompts=True) as server:
        yield Prompted(server, split_path(scratch))
