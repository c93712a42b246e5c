"""Small HTTP requests: whether a component answers, and what an object of the API is.

Callers: both tiers, while they wait. Never uses a proxy: every server is on this machine.
Not here: writing to the cluster (`kubectl`).
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

_ERRORS = (OSError, http.client.HTTPException, ValueError)


def get(url: str, context: ssl.SSLContext | None = None, *, method: str = "GET", seconds: float = 2.0) -> bytes | None:
    """Return the body of a 2xx answer, or None for anything else."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except _ERRORS:
        return None


def get_json(url: str, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Return the JSON object at `url`, empty when there is none."""
    body = get(url, context)
    if body is None:
        return {}
    value = json.loads(body)
    return value if isinstance(value, dict) else {}


def condition_true(resource: dict[str, Any], kind: str) -> bool:
    """Whether the object has the condition `kind` with status True."""
    conditions = resource.get("status", {}).get("conditions", [])
    return any(each.get("type") == kind and each.get("status") == "True" for each in conditions)


def untrusting_context() -> ssl.SSLContext:
    """Return a TLS context for health checks of servers with self-made certificates: it verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
