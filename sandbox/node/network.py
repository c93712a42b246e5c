"""The node's addresses, and the one veth pair (the cable) between this machine and the node.

The node has a network namespace of its own with a route to this machine and nowhere else; this machine can reach every
pod. The subnets are private ones that this machine does not route elsewhere.
Callers: `full_tier`, `traces`. Not here: pods' interfaces (CNI) and services (kube-proxy).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from sandbox.errors import SandboxError
from sandbox.host import commands

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
        """What clients must reach without a proxy: the node, for those that compare names; the block, for others."""
        return str(self.node), str(self.block)

    @property
    def pods(self) -> IPv4Network:
        """The pods' addresses."""
        return IPv4Network(f"{self.block[64 * 256]}/24")

    @property
    def services(self) -> IPv4Network:
        """The services' addresses; the first is the API server's."""
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
        f"The sandbox has no subnet because this machine routes all of {tried} elsewhere. "
        "Free one of them, see `ip route`."
    )


def routed_networks() -> list[IPv4Network]:
    """Return the networks that this machine routes to, without the default route and our own cable."""
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
    """Make the cable to the network namespace of process `init`, in place of one that exists."""
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
    if not present():
        return
    try:
        _ip("link", "delete", HOST_LINK)
    except SandboxError:
        # The kernel removes it by itself, a little after the node's network namespace has ended.
        if present():
            raise


def present() -> bool:
    """Whether there is a cable to any node."""
    return any(link.get("ifname") == HOST_LINK for link in json.loads(_ip("-j", "link")))


def _ip(*arguments: str) -> str:
    return _run(["ip", *arguments])


def _run(command: list[str]) -> str:
    advice = "Check that this root may change the network (CAP_NET_ADMIN)."
    doing = f"`{' '.join(command)}`"
    return commands.output(command, doing=doing, seconds=commands.QUICK_SECONDS, advice=advice) or "[]"
