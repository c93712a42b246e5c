"""The time series that Serin adds to vLLM's /metrics, and the limit on their number.

Called by the recorder, in vLLM's event loop. The first request of a pair (revision, epoch) creates all series of the
pair with value 0, so Prometheus sees the first failure as an increase, not as a new series. There are at most 64 pairs,
about two revisions at each of 32 epochs. Beyond that, the pair that was idle longest is removed from all families.

The series are in vLLM's own registry, so vLLM's page shows them. With several API server processes in one pod, vLLM
uses prometheus_client's multi-process mode: it sums over the processes but cannot remove a pair from the page.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from .checks.series import CheckCounters
from .labels import NO_EPOCH, NONE, Identity
from .load import LatencyAtLoad
from .outcome import OUTCOMES
from .timings import Times

MAX_PAIRS = 64

# The buckets that vLLM uses for the same quantities (vllm/v1/metrics/buckets.py in 0.32), so both can be compared.
TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
LATENCY_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
PER_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
TOKEN_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
"""Tokens of an answer."""
SILENCE_LIMITS = (30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds without a byte after which a request is overdue."""
SILENCE_LABELS = tuple(f"{limit:g}" for limit in SILENCE_LIMITS)
"""Values of the label `le`."""
LABELS = ("revision", "epoch")


Family = TypeVar("Family", Counter, Histogram)


class Pair:
    """The series of one (revision, epoch)."""

    __slots__ = (
        *("_children", "e2e", "identity", "in_flight", "outcomes", "output_tokens", "overdue", "per_token", "queue"),
        *("settled", "started", "ttft"),
    )

    def __init__(self, identity: Identity, families: Metrics) -> None:
        self.identity = identity
        self.in_flight = 0
        self._children: list[tuple[Counter | Histogram, tuple[str, ...]]] = []
        self.started = self.child(families.started)
        self.outcomes = {outcome: self.child(families.finished, outcome) for outcome in OUTCOMES}
        self.overdue = [self.child(families.overdue, limit) for limit in SILENCE_LABELS]
        """By the place of the limit in SILENCE_LIMITS, as `settled`."""
        self.settled = [self.child(families.settled, limit) for limit in SILENCE_LABELS]
        self.ttft = self.child(families.ttft)
        self.e2e = self.child(families.e2e)
        self.per_token = self.child(families.per_token)
        self.queue = self.child(families.queue)
        self.output_tokens = self.child(families.output_tokens)

    def child(self, family: Family, *more: str) -> Family:
        """Create a series of the pair, with more labels; it is removed with the pair."""
        labels = (*self.identity, *more)
        created = family.labels(*labels)
        self._children.append((family, labels))
        return created

    def remove(self) -> None:
        """Remove every series of the pair."""
        for family, labels in self._children:
            family.remove(*labels)

    def observe(self, times: Times) -> None:
        """Add the times of one request to the histograms."""
        self.ttft.observe(times.ttft)
        self.e2e.observe(times.e2e)
        self.queue.observe(times.queue)
        if times.per_token is not None:
            self.per_token.observe(times.per_token)
        if times.output_tokens is not None:
            self.output_tokens.observe(times.output_tokens)


class Metrics:
    """All metric families, and the pairs that have series in them."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, max_pairs: int = MAX_PAIRS) -> None:
        self._max_pairs = max_pairs
        self._pairs: OrderedDict[Identity, Pair] = OrderedDict()
        self.started = Counter(
            "serin_requests_started", "Requests received, by revision and epoch.", LABELS, registry=registry
        )
        self.finished = Counter(
            "serin_requests",
            "Requests finished, by revision, epoch and outcome.",
            (*LABELS, "outcome"),
            registry=registry,
        )
        self.overdue = Counter(
            "serin_requests_overdue",
            "Requests without a byte for `le` seconds, since their arrival or since the last byte; counted at that "
            "moment, once per `le`.",
            (*LABELS, "le"),
            registry=registry,
        )
        self.settled = Counter(
            "serin_requests_settled",
            "Requests that have finished or have been overdue by `le`, whichever was first.",
            (*LABELS, "le"),
            registry=registry,
        )
        self.ttft = Histogram(
            "serin_time_to_first_token_seconds",
            "Time from arrival to the first token, as measured by vLLM; only requests with outcome ok.",
            LABELS,
            buckets=TTFT_BUCKETS,
            registry=registry,
        )
        self.e2e = Histogram(
            "serin_e2e_request_latency_seconds",
            "Time from arrival to the last token, as measured by vLLM (by the middleware where vLLM reports none); "
            "only requests with outcome ok.",
            LABELS,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.per_token = Histogram(
            "serin_request_time_per_output_token_seconds",
            "Mean time per output token after the first, as measured by vLLM; only requests with outcome ok.",
            LABELS,
            buckets=PER_TOKEN_BUCKETS,
            registry=registry,
        )
        self.queue = Histogram(
            "serin_request_queue_time_seconds",
            "Time spent waiting to be scheduled, as measured by vLLM; only requests with outcome ok.",
            LABELS,
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.output_tokens = Histogram(
            "serin_output_tokens",
            "Tokens of the answer, as counted by vLLM; only requests with outcome ok.",
            LABELS,
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self.at_load = LatencyAtLoad(registry)
        self.checks = CheckCounters(registry)
        self.failures = Counter(
            "serin_middleware_failures",
            "Errors inside the middleware while it measured a request; the request itself is not affected.",
            registry=registry,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, identity: Identity) -> Pair:
        """The pair of an identity, created if it is new.

        If no other pair can be removed, because all have requests in flight, it is a pair of epoch `none` instead.
        """
        existing = self._pairs.get(identity)
        if existing is not None:
            self._pairs.move_to_end(identity)
            return existing
        if not self._has_room(identity):
            return self._unstamped()
        pair = self._pairs[identity] = Pair(identity, self)
        return pair

    def is_current(self, pair: Pair) -> bool:
        """Whether the pair's series still exist."""
        return self._pairs.get(pair.identity) is pair

    def _has_room(self, identity: Identity) -> bool:
        """Whether a new pair fits, perhaps because another was removed."""
        full = len(self._pairs) >= self._max_pairs
        if identity.epoch == NO_EPOCH:
            return not full or self._make_room()
        # One place is reserved for epoch `none`: it takes the requests whose own pair does not fit.
        stamped = sum(each.epoch != NO_EPOCH for each in self._pairs)
        if stamped >= self._max_pairs - 1:
            return self._make_room(stamped=True)
        return not full or self._make_room()

    def _unstamped(self) -> Pair:
        """The pair for requests whose own pair does not fit: it always exists or has room."""
        if NONE not in self._pairs:
            for identity in reversed(self._pairs):
                if identity.epoch == NO_EPOCH:
                    return self.pair(identity)
        return self.pair(NONE)

    def _make_room(self, *, stamped: bool = False) -> bool:
        """Remove the pair that was idle longest; whether there was one."""
        for identity, pair in self._pairs.items():
            if pair.in_flight == 0 and not (stamped and identity.epoch == NO_EPOCH):
                del self._pairs[identity]
                pair.remove()
                self.at_load.forget(identity)
                self.checks.forget(identity)
                return True
        return False
