"""Turns the output of a build that failed into one message: what happened, why, what to do. Called by `cache`."""

from __future__ import annotations

from sandbox.host.machine import COLD_BYTES, GIGABYTE

_NETWORK_SIGNS = (
    "dial tcp",
    "no such host",
    "i/o timeout",
    "proxyconnect",
    "connection refused",
    "error sending request",
    "dns error",
    "TLS handshake",
)
_DISK_SIGNS = ("no space left on device",)


def explain(step: str, output: str) -> str:
    """Return the message for a failed step such as `building etcd`, on one line."""
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()] or ["no output"]
    for line in lines:
        if any(sign in line for sign in _DISK_SIGNS):
            return (
                f"{step.capitalize()} failed because the disk is full. "
                f"Free {COLD_BYTES // GIGABYTE} GB, or move SERIN_CACHE and GOCACHE to a larger disk."
            )
        if any(sign in line for sign in _NETWORK_SIGNS):
            return (
                f"{step.capitalize()} failed because the package registry cannot be reached ({line[:160]}). "
                "Connect the machine to the network (or set GOPROXY, HTTPS_PROXY), then run the same command again."
            )
    return (
        f"{step.capitalize()} failed ({lines[-1][:300]}). "
        "Run the same command again; if that does not help, remove the cache and run it again."
    )
