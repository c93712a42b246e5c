"""Free ports of this machine. Callers: the API tier, the tests and the model server's runner."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
_returned: set[int] = set()
"""A caller binds its port later than it asks, and must not get the port of a caller that has not bound yet."""


def free_port() -> int:
    """Return a loopback port on which nothing listens now, never the same twice; another process may still take it."""
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in _returned:
            _returned.add(port)
            return port
