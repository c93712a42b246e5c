"""Revision and epoch: the two labels of every series."""

from __future__ import annotations

from typing import NamedTuple

EPOCHS = 32
"""Number of epoch values. They are reused in a ring, so the number of series does not grow over time."""
NO_EPOCH = "none"
"""Epoch of a request that no split handled: it is counted, and it is never evidence."""


class Identity(NamedTuple):
    """The labels of one request."""

    revision: str
    epoch: str


NONE = Identity("none", NO_EPOCH)
"""Identity of a request whose revision is not known either."""
