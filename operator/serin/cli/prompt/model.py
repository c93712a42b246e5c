"""Asks a running model by its OpenAI-compatible URL: for an answer, or for the number of tokens. Writes nothing.

The key is read from OPENAI_API_KEY, never from an argument, which other users of the machine could see. Answers are
bounded in size and time. Redirects are not followed, so the key reaches no other server.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from serin.cli.prompt.length import Count
from serin.errors import InputError

MAX_ANSWER = 16 * 2**20
COUNT_SECONDS = 30.0
KEY_VARIABLE = "OPENAI_API_KEY"
PROMPT_HEADER = "x-serin-prompt"


@dataclass(frozen=True)
class Reply:
    """A response of the server."""

    body: Mapping[str, Any]
    served_prompt: str | None
    """The prompt that the server itself has put in front, if it says so."""


def complete(url: str, body: Mapping[str, Any], limit: float) -> Reply:
    """The chat completion for a body.

    Raises:
        InputError: the server cannot be reached, refuses the request, or answers with something else.
    """
    return asyncio.run(_post(f"{_base(url)}/chat/completions", body, limit))


def count_tokens(url: str, model: str, body: Mapping[str, Any]) -> Count:
    """The tokens of a body's messages and tools, as vLLM counts them.

    Raises:
        InputError: the server cannot be reached, or is not vLLM.
    """
    question = {"model": model, "messages": body["messages"], "tools": body.get("tools")}
    given = {name: value for name, value in question.items() if value is not None}
    reply = asyncio.run(_post(f"{_base(url).removesuffix('/v1')}/tokenize", given, COUNT_SECONDS)).body
    tokens, limit = reply.get("count"), reply.get("max_model_len")
    if not isinstance(tokens, int):
        raise InputError(f"{url} does not count tokens as vLLM does; leave --url out, or give that of vLLM.")
    return Count(tokens, limit if isinstance(limit, int) else None)


def served_model(url: str, limit: float = COUNT_SECONDS) -> str:
    """The first model that the server lists.

    Raises:
        InputError: the server cannot be reached, or lists none.
    """
    reply = asyncio.run(_request("GET", f"{_base(url)}/models", None, limit)).body
    models = reply.get("data")
    first = models[0] if isinstance(models, list) and models else {}
    name = first.get("id") if isinstance(first, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{url} lists no model; give --model.")
    return name


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise InputError(
            f"{url[:200]!r} is no URL of a model; write http://HOST:PORT/v1, and the key in {KEY_VARIABLE}."
        )
    base = url.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


async def _post(url: str, body: Mapping[str, Any], limit: float) -> Reply:
    return await _request("POST", url, body, limit)


async def _request(method: str, url: str, body: Mapping[str, Any] | None, limit: float) -> Reply:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=limit), trust_env=True) as session,
            session.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            content = await _bounded(response)
            return Reply(_checked(url, response.status, content), response.headers.get(PROMPT_HEADER))
    except TimeoutError as error:
        raise InputError(f"{url} did not answer within {limit:g} s; raise --timeout, or check the server.") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{url} cannot be reached ({reason}); check --url and that the server runs.") from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        content += chunk
        if len(content) > MAX_ANSWER:
            raise InputError(f"The answer has more than {MAX_ANSWER // 2**20} MiB; lower maxTokens.")
    return bytes(content)


def _checked(url: str, status: int, content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if status == 200 and isinstance(body, dict):
        return body
    said = body if isinstance(body, dict) else {}
    error = said.get("error", said.get("message"))
    reason = error.get("message") if isinstance(error, dict) else error
    text = " ".join(str(reason or content[:200].decode(errors="replace")).split())[:300] or "no reason given"
    raise InputError(f"{url} answered with HTTP {status}: {text}; correct the request, or check --url and --model.")
