"""The node's addresses, and the one cable between the machine and the node.

The node has a network namespace of its own with a route to this machine and nowhere else; the machine can reach every
pod. Subnets are taken from an unusual private range that nothing on the machine routes to.
Callers: `full_tier`. Not here: the pods' side (CNI's business) and services (kube-proxy's).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from sandbox.errors import SandboxError
from sandbox.host import bounds

HOST_LINK = "serin-host"
NODE_LINK = "serin-node"
# Second octets of 10.0.0.0/8 to try, in this order.
_CANDIDATES = (213, 214, 219, 231, 237, 83)


@dataclass(frozen=True, slots=True)
class Plan:
    """All addresses of one sandbox, derived from one /16."""

    block: IPv4Network

    @property
    def link(self) -> IPv4Network:
        """The cable: two addresses."""
        return IPv4Network(f"{self.block.network_address}/30")

    @property
    def host(self) -> IPv4Address:
        """This machine, as the node and its pods see it."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        """The node, as this machine and the pods see it."""
        return self.link[2]

    @property
    def addresses(self) -> tuple[str, ...]:
        """What no proxy may stand before: the node for clients that compare names, the block for those that know it."""
        return str(self.node), str(self.block)

    @property
    def pods(self) -> IPv4Network:
        """Where pods get their addresses."""
        return IPv4Network(f"{self.block[64 * 256]}/24")

    @property
    def services(self) -> IPv4Network:
        """Where services get their addresses; the first is the API server's."""
        return IPv4Network(f"{self.block[128 * 256]}/20")


def choose(routed: Iterable[IPv4Network]) -> Plan:
    """Return the first plan that overlaps nothing the machine already routes."""
    taken = list(routed)
    for octet in _CANDIDATES:
        block = IPv4Network(f"10.{octet}.0.0/16")
        if not any(block.overlaps(other) for other in taken):
            return Plan(block)
    tried = ", ".join(f"10.{octet}.0.0/16" for octet in _CANDIDATES)
    raise SandboxError(
        f"Every subnet the sandbox could use ({tried}) is routed elsewhere; free one of them, see `ip route`"
    )


def routed_networks() -> list[IPv4Network]:
    """Return what the machine routes to by name, that is, everything but the default route and our own cable."""
    found = []
    for route in json.loads(_ip("-j", "-4", "route", "show", "table", "all")):
        destination = route.get("dst", "default")
        if destination != "default" and route.get("dev") != HOST_LINK:
            found.append(IPv4Network(destination, strict=False))
    return found


def connected(plan: Plan) -> bool:
    """Whether this machine has its end of the cable and its routes."""
    routes = [route for route in json.loads(_ip("-j", "-4", "route")) if route.get("dev") == HOST_LINK]
    wanted = {str(plan.link), str(plan.pods), str(plan.services)}
    return wanted <= {route.get("dst") for route in routes}


def connect(plan: Plan, init: int) -> None:
    """Lay the cable to the network namespace of process `init`, replacing one that is there."""
    disconnect()
    _ip("link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", str(init))
    _ip("address", "add", f"{plan.host}/{plan.link.prefixlen}", "dev", HOST_LINK)
    _ip("link", "set", HOST_LINK, "up")
    inside = ["nsenter", "--target", str(init), "--net", "--", "ip"]
    _run([*inside, "address", "add", f"{plan.node}/{plan.link.prefixlen}", "dev", NODE_LINK])
    _run([*inside, "link", "set", NODE_LINK, "up"])
    # Without any route a packet to a service would be refused before kube-proxy's rules see it.
    _run([*inside, "route", "replace", str(plan.services), "via", str(plan.host)])
    for subnet in (plan.pods, plan.services):
        _ip("route", "replace", str(subnet), "via", str(plan.node), "dev", HOST_LINK)


def disconnect() -> None:
    """Remove this machine's end of the cable, and with it the routes and the other end."""
    if present():
        _ip("link", "delete", HOST_LINK)


def present() -> bool:
    """Whether there is a cable, to whatever node."""
    return any(link.get("ifname") == HOST_LINK for link in json.loads(_ip("-j", "link")))


def _ip(*arguments: str) -> str:
    return _run(["ip", *arguments])


def _run(command: list[str]) -> str:
    done = bounds.finish(command, doing=" ".join(command), seconds=bounds.QUICK_SECONDS)
    if done.returncode != 0:
        sentence = done.stderr.decode(errors="replace").strip() or "no output"
        raise SandboxError(
            f"`{' '.join(command)}` failed ({sentence}); check that this root may change the network (CAP_NET_ADMIN)"
        )
    return done.stdout.decode() or "[]"
