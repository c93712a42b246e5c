"""Which revision answers a request, and in which epoch it counts, in a pod that has a split document.

Called by the middleware, once per request, with the document that is current at that moment. Whoever splits a request
stamps it: if the gateway splits, the header x-serin-epoch has the epoch and a token that only the route and the pods of
this model have; if the pod splits, no header matters. What a client writes into a header is therefore never a label.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest

from .document import FULL_WEIGHT, Document
from .identity import Headers, Stamp, read_headers
from .labels import NONE, Identity
from .prompting.conversation import first_user_text

_DRAW_BYTES = 8

Draw = Callable[[int], bytes]
"""Random bytes, as os.urandom gives them."""


def select(
    headers: Headers, document: Document | None, path: str = "", body: bytes | None = None, draw: Draw = os.urandom
) -> Stamp:
    """Labels, request id and document of a request. Without a document nothing is known: the labels are `none`.

    Args:
        headers: the request's headers, names in lower case.
        document: the document in force.
        path: the request's path; like `body`, it is needed only if the document `needs_body`.
        body: the request's body; None if it is not known.
        draw: gives random bytes.
    """
    sent = read_headers(headers)
    if document is None:
        identity = NONE
    elif document.epoch is None:
        identity = _of_gateway(sent.epoch, document)
    else:
        identity = document.split[is_canary(document, _key(headers, document, path, body) or draw(_DRAW_BYTES))]
    return Stamp(identity, sent.request_id, document)


def is_canary(document: Document, key: bytes) -> bool:
    """Whether a request with this key goes to the second revision.

    Buckets below the canary's weight are the canary's, so a growing weight moves no key back to the stable.
    """
    if not document.canary_weight:
        return False
    hashed = blake2b(key, digest_size=8, key=document.salt).digest()
    return int.from_bytes(hashed, "big") % FULL_WEIGHT < document.canary_weight


def _key(headers: Headers, document: Document, path: str, body: bytes | None) -> bytes | None:
    """What the request's choice is bound to; None if it is to be drawn at random.

    A header that is missing, empty or sent twice binds nothing, nor does a body without a user message.
    """
    if document.key is None or not document.canary_weight:
        return None
    if document.key.header is None:
        return None if body is None else first_user_text(path, body)
    values = [value for name, value in headers if name == document.key.header]
    return values[0] if len(values) == 1 else None


def _of_gateway(header: bytes | None, document: Document) -> Identity:
    """Labels by the value `<epoch>.<token>`; epoch `none` if it is missing, malformed, or has another token."""
    epoch, _, token = (header or b"").partition(b".")
    # The time of the comparison must not tell how much of a token is right.
    if not compare_digest(token, document.token):
        return document.unstamped
    return document.stamped.get(epoch, document.unstamped)
