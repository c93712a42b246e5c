"""What a gateway does to requests when a route changes: `make bench-gateways`, with GATEWAY for another than Contour.

Changes the weights of one HTTPRoute between two light engines while requests are sent, by jumps and as Serin does, and
lets streams run under time-outs of the route. Writes `bench/gateways/<gateway>.md`. Starts the sandbox if needed and
leaves it running. Not here: rollouts (`tests/e2e`), which pass on every gateway of the sandbox.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.demo import conditions as seen
from examples.demo import prepare
from examples.demo.cluster import Cluster, Object, temporary_namespace
from examples.demo.errors import WaitFailedError
from examples.demo.follow import Follower
from examples.demo.place import Place
from examples.demo.say import Teller
from examples.light.image import load_image
from examples.light.story import NAME, PATIENCE, host, manifest
from examples.light.traffic import Stream, Traffic

ROUNDS = 6
RATE = 250.0
"""Requests per second."""
SHARED = 3.0
"""Seconds for which both backends have weight."""
AFTER = 4.0
"""Seconds after a change in which its effect is counted."""
SETTLE = 2.0
"""Seconds after the gateway has reported a route as programmed: the chart's `route.settleSeconds`."""
TIMEOUTS: Sequence[tuple[str, Mapping[str, str], float]] = (
    ("`request: 0s`, as Serin writes", {"request": "0s"}, 65.0),
    ("no `timeouts`", {}, 20.0),
    ("`request: 2s`", {"request": "2s"}, 5.0),
)
"""What the rule says, and the seconds for which a stream under it would run."""


@dataclass
class Changes:
    """What rounds of weight changes did."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """By status, or by the error of a request without one."""
    late: list[float] = field(default_factory=list)
    """By round: seconds from the end of the write that took the weight to the last request at that backend."""

    @property
    def row(self) -> str:
        """Cells of the table: requests, failures, and when the last request reached a backend without weight."""
        causes = ", ".join(f"{count} x {what}" for what, count in sorted(self.failures.items()))
        failed = f"{self.failures.total()} ({causes})" if causes else "0"
        median, most = statistics.median(self.late), max(self.late)
        return f"{self.requests:,} | {failed} | {median:.1f} s | {most:.1f} s"


@dataclass(frozen=True)
class Bench:
    """Two light engines and the route that splits between them."""

    place: Place
    cluster: Cluster
    first: str
    second: str
    """Services of the two engines."""
    revision: str
    """The revision of the second engine, as its answers name it."""

    def write(self, weights: Mapping[str, int], timeouts: Mapping[str, str] | None = None) -> None:
        """Write the route."""
        self.cluster.apply(self._route(weights, {"request": "0s"} if timeouts is None else timeouts))

    def settle(self) -> None:
        """Wait until the gateway reports the route as programmed, and then as long as Serin does."""
        deadline = time.monotonic() + PATIENCE
        while not is_programmed(self.cluster.get("httproute/split")):
            if time.monotonic() > deadline:
                raise WaitFailedError("The gateway did not report the route as programmed; see its log.")
            time.sleep(0.1)
        time.sleep(SETTLE)

    def jumps(self, traffic: Traffic) -> Changes:
        """Give a backend that is not in the route half of the traffic, and remove it again."""
        with self._counted(traffic) as found:
            for _ in range(ROUNDS):
                self.write({self.first: 1, self.second: 1})
                time.sleep(SHARED)
                self._withdraw(traffic, found, {self.first: 1})
        return found

    def steps(self, traffic: Traffic) -> Changes:
        """The same by way of weight 0, as Serin does."""
        with self._counted(traffic) as found:
            for _ in range(ROUNDS):
                self.write({self.first: 1, self.second: 0})
                self.settle()
                self.write({self.first: 1, self.second: 1})
                time.sleep(SHARED)
                self._withdraw(traffic, found, {self.first: 1, self.second: 0})
                self.write({self.first: 1})
                self.settle()
        return found

    def stream(self, timeouts: Mapping[str, str], seconds: float) -> str:
        """Let a stream run under time-outs of the route, and return how it ended."""
        self.write({self.first: 1}, timeouts)
        self.settle()
        stream = Stream(self.place, self.cluster, seconds)
        stream.join(seconds + 30)
        return f"cut after {stream.took:.0f} s" if stream.problem else f"complete after {stream.took:.0f} s"

    def _withdraw(self, traffic: Traffic, found: Changes, weights: Mapping[str, int]) -> None:
        self.write(weights)
        written = traffic.elapsed
        time.sleep(AFTER)
        if self.revision not in traffic.last_sent:
            raise WaitFailedError(f"{self.second} answered nothing while it had weight; see the route and its pods.")
        found.late.append(max(0.0, traffic.last_sent[self.revision] - written))

    @contextmanager
    def _counted(self, traffic: Traffic) -> Iterator[Changes]:
        found, ended, failed = Changes(), traffic.ended, len(traffic.failures)
        yield found
        found.requests = traffic.ended - ended
        found.failures.update(str(each.status or each.text.partition("(")[0]) for each in traffic.failures[failed:])

    def _route(self, weights: Mapping[str, int], timeouts: Mapping[str, str]) -> Object:
        namespace, name = self.place.gateway
        rule: dict[str, Any] = {
            "backendRefs": [{"name": service, "port": 8000, "weight": weight} for service, weight in weights.items()]
        }
        if timeouts:
            rule["timeouts"] = dict(timeouts)
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "split"},
            "spec": {
                "parentRefs": [{"name": name, "namespace": namespace}],
                "hostnames": [host(self.cluster)],
                "rules": [rule],
            },
        }


def main() -> int:
    """Measure on the sandbox and write the page."""
    tell = Teller()
    place = prepare.sandbox(tell)
    prepare.operator(tell, place)
    load_image(tell, place)
    with temporary_namespace(place.environment, "bench-gateways") as cluster:
        page = _page(place, _measure(tell, place, cluster))
    Path(__file__).with_name(f"{place.gateway_program}.md").write_text(page)
    print(page)
    return 0


def _measure(tell: Teller, place: Place, cluster: Cluster) -> Mapping[str, str]:
    """The rows of the page: what was done, and its cells."""
    first, second = _engine(cluster, NAME, "0"), _engine(cluster, "other", "1")
    services = [f"{name}-{side['engineRevision']}" for name, side in ((NAME, first), ("other", second))]
    bench = Bench(place, cluster, services[0], services[1], str(second["revision"]))
    rows = {}
    bench.write({bench.first: 1})
    bench.settle()
    with Traffic(place, cluster, RATE) as traffic:
        traffic.wait_for(int(RATE * 2), PATIENCE)
        for what, play in (("jumps", bench.jumps), ("by way of weight 0", bench.steps)):
            rows[what] = play(traffic).row
            tell.say(f"{what}: {rows[what]}")
    for what, timeouts, seconds in TIMEOUTS:
        rows[what] = f"{seconds:.0f} s | {bench.stream(timeouts, seconds)}"
        tell.say(f"{what}: {rows[what]}")
    return rows


def _engine(cluster: Cluster, name: str, variant: str) -> Object:
    """Install a light engine whose own route takes none of the requests, and return its stable."""
    wanted = manifest(cluster, variant)
    wanted["metadata"]["name"] = name
    wanted["spec"]["routing"]["gateway"]["hostnames"] = [f"{name}.{host(cluster)}"]
    with Follower(cluster, name) as follower:
        cluster.apply(wanted)
        return seen.side(follower.wait_for(f"{name} serves", seen.is_settled, PATIENCE), "stable")


def is_programmed(route: Object) -> bool:
    """Whether the gateway has accepted the route's present generation with all its backends."""
    generation = route["metadata"]["generation"]
    parents = (route.get("status") or {}).get("parents") or ()
    held = {
        condition["type"]
        for parent in parents
        for condition in parent.get("conditions", ())
        if condition.get("observedGeneration") == generation and condition["status"] == "True"
    }
    return held >= {"Accepted", "ResolvedRefs"}


def _page(place: Place, rows: Mapping[str, str]) -> str:
    cells = list(rows.items())
    changes, streams = cells[:2], cells[2:]
    return f"""\
# Weight changes and time-outs: {place.gateway_program}

Written by `GATEWAY={place.gateway_program} make bench-gateways`: the sandbox's real gateway, two light engines,
{RATE:g} requests/s over connections that stay open, {ROUNDS} rounds each. In a round a backend enters the route,
has half of the traffic for {SHARED:g} s, and leaves.

| how it enters and leaves | requests | failed | last request after the weight was taken: median | most |
|---|---|---|---|---|
{_lines(changes)}
| `timeouts` of the rule | a stream of | ends |
|---|---|---|
{_lines(streams)}"""


def _lines(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"| {what} | {row} |\n" for what, row in rows)


if __name__ == "__main__":
    sys.exit(main())
