"""Split documents for tests, written as the operator writes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

STABLE, CANARY, TOKEN = "88e4b76379", "15f6a8e5fc", "0123456789abcdef"
MEASURE = {"load": {"from": 1.0, "ratio": 1.3}, "boundaries": {"ttft": [0.21, 0.35, 0.8]}}


def document(**changes: Any) -> dict[str, Any]:
    """A document in which the gateway splits, with a hash that fits; `...` takes a key away."""
    content: dict[str, Any] = {
        "schema": 1,
        "sequence": 71,
        "epoch": None,
        "salt": CANARY,
        "token": TOKEN,
        "revisions": [{"revision": STABLE, "weight": 10_000}],
        "reveal": False,
    }
    content = {name: value for name, value in (content | changes).items() if value is not ...}
    if "sha256" not in changes:
        hashed = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        content["sha256"] = hashlib.sha256(hashed.encode("utf-8", "surrogatepass")).hexdigest()
    return content


def raw(**changes: Any) -> bytes:
    """The bytes of `document(**changes)`."""
    return json.dumps(document(**changes)).encode()


def shared(canary: int = 500, epoch: int = 7, **changes: Any) -> bytes:
    """A document in which the pod splits between two revisions."""
    revisions = [{"revision": STABLE, "weight": 10_000 - canary}, {"revision": CANARY, "weight": canary}]
    return raw(epoch=epoch, revisions=revisions, **changes)
