"""The recursion limit of the process: high enough for every object that Kubernetes stores, too low to crash Python.

Called first by `serin.__main__`, for every command. kopf and our client decode lists and watch events with Python's
json module, which recurses once per level; Python's default limit of 1,000 would let one object, nested deeper, end
the process. What such an object says is judged later, by `serin.api.parse`.
"""

from __future__ import annotations

import sys

LIMIT = 12_000
"""Kubernetes accepts objects of at most 10,000 levels. At 12,000 levels json takes less than 2 MiB of C stack, `repr`
less than 4 MiB; a thread has 8 MiB."""


def allow_deep_json() -> None:
    """Raise the recursion limit; all threads of the process share it."""
    sys.setrecursionlimit(max(LIMIT, sys.getrecursionlimit()))
