"""The time series that Serin adds to vLLM's /metrics, and the limit on their number.

Called by the recorder, in vLLM's event loop. The first request of a pair (revision, epoch) creates all series of the
pair with value 0, so Prometheus sees the first failure as an increase, not as a new series. There are at most 64 pairs,
about two revisions at each of 32 epochs. Beyond that, the pair that was idle longest is removed from all families.

The series are in vLLM's own registry, so vLLM's page shows them. With several API server processes in one pod, vLLM
uses prometheus_client's multi-process mode: it sums over the processes but cannot remove a pair from the page.
"""

from __future__ import annotations

from collections import OrderedDict

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from .identity import NONE, Identity
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
LABELS = ("revision", "epoch")


class Pair:
    """The series of one (revision, epoch)."""

    __slots__ = ("e2e", "identity", "in_flight", "outcomes", "per_token", "queue", "started", "ttft")

    def __init__(self, identity: Identity, families: Metrics) -> None:
        self.identity = identity
        self.in_flight = 0
        self.started = families.started.labels(*identity)
        self.outcomes = {outcome: families.finished.labels(*identity, outcome) for outcome in OUTCOMES}
        self.ttft = families.ttft.labels(*identity)
        self.e2e = families.e2e.labels(*identity)
        self.per_token = families.per_token.labels(*identity)
        self.queue = families.queue.labels(*identity)

    def observe(self, times: Times) -> None:
        """Add the times of one request to the histograms."""
        self.ttft.observe(times.ttft)
        self.e2e.observe(times.e2e)
        self.queue.observe(times.queue)
        if times.per_token is not None:
            self.per_token.observe(times.per_token)


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
        self.failures = Counter(
            "serin_middleware_failures",
            "Errors inside the middleware while it measured a request; the request itself is not affected.",
            registry=registry,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, identity: Identity) -> Pair:
        """The pair of an identity, created if it is new; the pair of `none` if all others have requests in flight."""
        existing = self._pairs.get(identity)
        if existing is not None:
            self._pairs.move_to_end(identity)
            return existing
        # One place is reserved for `none`: it takes the requests whose own pair does not fit.
        if (
            identity != NONE
            and len(self._pairs) - (NONE in self._pairs) >= self._max_pairs - 1
            and not self._make_room()
        ):
            return self.pair(NONE)
        pair = self._pairs[identity] = Pair(identity, self)
        return pair

    def is_current(self, pair: Pair) -> bool:
        """Whether the pair's series still exist."""
        return self._pairs.get(pair.identity) is pair

    def _make_room(self) -> bool:
        for identity, pair in self._pairs.items():
            if pair.in_flight == 0 and identity != NONE:
                self._remove(identity)
                return True
        return False

    def _remove(self, identity: Identity) -> None:
        del self._pairs[identity]
        for family in (self.started, self.ttft, self.e2e, self.per_token, self.queue):
            family.remove(*identity)
        for outcome in OUTCOMES:
            self.finished.remove(*identity, outcome)
