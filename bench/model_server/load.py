"""The client: a few keep-alive connections, each of which sends a request as soon as its last answer has ended.

Called by the benchmark. Raw sockets in one event loop, because a client library would cost more than the middleware.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_server.serin_model_server.document import canonical

CHAT = "/v1/chat/completions"
REVISION = "abcdef0123"
EPOCH = "7.0123456789abcdef"
"""What the route sets in the header x-serin-epoch: epoch and token."""


@dataclass(frozen=True)
class Round:
    """The results of one round of requests, in seconds."""

    elapsed: float
    first_tokens: tuple[float, ...]
    cpu: float = 0.0
    """Processor time of the API server."""

    @property
    def throughput(self) -> float:
        """Requests per second."""
        return len(self.first_tokens) / self.elapsed


def body(model: str, size: int, number: int, *, system: str | None = None, escaped: bool = False) -> bytes:
    """The body of a streaming chat request, of `size` bytes or one less; every number gives another prompt.

    Args:
        model: its name.
        size: bytes.
        number: of the request.
        system: the text of a system message.
        escaped: whether most of it is one escape sequence of JSON after the other.
    """
    user = {"role": "user", "content": f"Ticket {number}: vpn issue for Ana, urgent."}
    asked = {
        "model": model,
        "messages": [{"role": "system", "content": system}, user] if system else [user],
        "max_tokens": 4,
        "ignore_eos": True,
        "stream": True,
        "user": "",
    }
    missing = max(0, size - len(json.dumps(asked)))
    asked["user"] = "\N{LATIN SMALL LETTER E WITH ACUTE}" * (missing // 6) if escaped else "x" * missing
    return json.dumps(asked).encode()


def request(content: bytes) -> bytes:
    """The request with a body."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-serin-epoch: {EPOCH}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def split_document(prompt: Mapping[str, Any] | None = None, checks: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """The split document of a pod with one revision, while the gateway splits."""
    prompts = {"prompts": {"triage": prompt}} if prompt else {}
    content = {
        "schema": 1,
        "sequence": 7,
        "epoch": None,
        "salt": REVISION,
        "token": EPOCH.partition(".")[2],
        "revisions": [{"revision": REVISION, "weight": 10_000} | prompts],
        "checks": list(checks),
        "reveal": False,
    }
    return json.dumps(content | {"sha256": hashlib.sha256(canonical(content)).hexdigest()}).encode()


async def round_of(port: int, requests: list[bytes], connections: int) -> Round:
    """Send all requests, as fast as the answers come."""
    waiting = iter(requests)
    first_tokens: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_connection(port, waiting, first_tokens) for _ in range(connections)))
    return Round(time.perf_counter() - began, tuple(first_tokens))


async def _connection(port: int, waiting: Iterator[bytes], first_tokens: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        for data in waiting:
            sent = time.perf_counter()
            writer.write(data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise SystemExit(f"bench: The server refused the request with {head[:200]!r}. Correct the request.")
            # A stream comes in chunks; the first one holds the first token.
            first = True
            while (size := int(await reader.readline(), 16)) > 0:
                await reader.readexactly(size + 2)
                if first:
                    first_tokens.append(time.perf_counter() - sent)
                    first = False
            await reader.readexactly(2)
    finally:
        writer.close()
        await writer.wait_closed()
