"""Whose request it is: revision and epoch as the route stamped them, and the id that the client or the gateway gave.

Called by the middleware, once per request. The route *sets* both headers, which replaces whatever a client sent. So one
well-formed value each is the route's word, and anything else did not come through the route: a header that is missing,
malformed, or there twice. Such a request is counted under `none`, never under a revision that a client could choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

REVISION_HEADER = b"x-serin-revision"
EPOCH_HEADER = b"x-serin-epoch"
REQUEST_ID_HEADER = b"x-request-id"
EPOCHS = 32
"""Epochs are a ring of this many values, so that series do not grow with the life of a deployment."""

_REVISION = re.compile(rb"[0-9a-f]{10}")
_EPOCHS = {str(number).encode(): str(number) for number in range(EPOCHS)}

Headers = Iterable[tuple[bytes, bytes]]


class Identity(NamedTuple):
    """The two labels of every series."""

    revision: str
    epoch: str


NONE = Identity("none", "none")
"""A request that the route did not stamp."""


class Stamp(NamedTuple):
    """What the headers say."""

    identity: Identity
    request_id: bytes | None
    """None where there is none, or more than one."""


def read_stamp(headers: Headers) -> Stamp:
    """The stamp of a request. ASGI servers give header names in lower case."""
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
    known = NONE
    if revisions == epochs == 1 and revision is not None and _REVISION.fullmatch(revision):
        number = _EPOCHS.get(epoch or b"")
        if number is not None:
            known = Identity(revision.decode("ascii"), number)
    return Stamp(known, request_id if ids == 1 else None)
