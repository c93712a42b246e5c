"""Revision and epoch of a request, as stamped by the route, and the request id set by the client or the gateway.

Called by the middleware, once per request. The route *sets* both headers, which replaces any value that a client sent.
Exactly one well-formed value per header therefore comes from the route. If a header is missing, malformed or repeated,
the request did not come through the route: it is counted under `none`, never under a revision that a client chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

REVISION_HEADER = b"x-serin-revision"
EPOCH_HEADER = b"x-serin-epoch"
REQUEST_ID_HEADER = b"x-request-id"
EPOCHS = 32
"""Number of epoch values. They are reused in a ring, so the number of series does not grow over time."""

_REVISION = re.compile(rb"[0-9a-f]{10}")
_EPOCHS = {str(number).encode(): str(number) for number in range(EPOCHS)}

Headers = Iterable[tuple[bytes, bytes]]


class Identity(NamedTuple):
    """Revision and epoch: the two labels of every series."""

    revision: str
    epoch: str


NONE = Identity("none", "none")
"""Identity of a request that the route did not stamp."""


class Stamp(NamedTuple):
    """What the request's headers contain."""

    identity: Identity
    request_id: bytes | None
    """Value of X-Request-Id; None if the header is missing or repeated."""


def read_stamp(headers: Headers) -> Stamp:
    """Identity and request id of a request. Header names must be lower case, as ASGI servers provide them."""
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
    identity = NONE
    if revisions == epochs == 1 and revision is not None and _REVISION.fullmatch(revision):
        number = _EPOCHS.get(epoch or b"")
        if number is not None:
            identity = Identity(revision.decode("ascii"), number)
    return Stamp(identity, request_id if ids == 1 else None)
