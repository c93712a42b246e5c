"""What the headers of a request say about its revision and epoch, and its request id.

Called by the middleware, once per request. In a pod that has a split document, `selection` decides with the help of
these headers. In a pod without one, the route *sets* both headers, which replaces any value that a client sent. Exactly
one well-formed value per header therefore comes from the route. If a header is missing, malformed or repeated, the
request did not come through the route: it is counted under `none`, never under a revision that a client chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .document import Document
from .labels import EPOCHS, NONE, Identity

__all__ = ["EPOCHS", "NONE", "Headers", "Identity", "Sent", "Stamp", "read_headers", "read_stamp"]

REVISION_HEADER = b"x-serin-revision"
PROMPT_HEADER = b"x-serin-prompt"
EPOCH_HEADER = b"x-serin-epoch"
REQUEST_ID_HEADER = b"x-request-id"
_REVISION = re.compile(rb"[0-9a-f]{10}")
_EPOCHS = {str(number).encode(): str(number) for number in range(EPOCHS)}

Headers = Iterable[tuple[bytes, bytes]]


class Stamp(NamedTuple):
    """What is known about a request when its headers have arrived."""

    identity: Identity
    request_id: bytes | None
    """Value of X-Request-Id; None if the header is missing or repeated."""
    document: Document | None = None
    """The split document that the request uses from its headers to its end; None in a pod without one."""


class Sent(NamedTuple):
    """The values of the headers that matter; None for a header that is missing or repeated."""

    revision: bytes | None
    epoch: bytes | None
    request_id: bytes | None


def read_headers(headers: Headers) -> Sent:
    """The headers that matter. Header names must be lower case, as ASGI servers provide them."""
    revision: bytes | None = None
    epoch: bytes | None = None
    request_id: bytes | None = None
    revisions = epochs = ids = 0
    for name, value in headers:
        if name == REVISION_HEADER:
            revision, revisions = value, revisions + 1
        elif name == EPOCH_HEADER:
            epoch, epochs = value, epochs + 1
        elif name == REQUEST_ID_HEADER:
            request_id, ids = value, ids + 1
    return Sent(revision if revisions == 1 else None, epoch if epochs == 1 else None, request_id if ids == 1 else None)


def read_stamp(headers: Headers) -> Stamp:
    """Identity and request id of a request in a pod without a split document."""
    sent = read_headers(headers)
    identity = NONE
    if sent.revision is not None and sent.epoch is not None and _REVISION.fullmatch(sent.revision):
        number = _EPOCHS.get(sent.epoch)
        if number is not None:
            identity = Identity(sent.revision.decode("ascii"), number)
    return Stamp(identity, sent.request_id)
