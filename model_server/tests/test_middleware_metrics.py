"""The number of series is limited to 64 pairs of labels for any requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from model_server.serin_model_server.identity import NONE, Identity
from model_server.serin_model_server.metrics import MAX_PAIRS, Metrics
from model_server.serin_model_server.timings import Times

TIMES = Times(ttft=0.1, e2e=1.0, queue=0.0, per_token=0.1)


def names(registry: CollectorRegistry) -> set[tuple[str, str]]:
    return {
        (sample.labels["revision"], sample.labels["epoch"])
        for family in registry.collect()
        for sample in family.samples
        if "revision" in sample.labels
    }


def test_longest_idle_pair_is_removed_from_all_families() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    identities = [Identity(f"{number:010x}", "0") for number in range(MAX_PAIRS)]
    for identity in identities[:-1]:
        metrics.pair(identity)
    # Used again, so no longer idle longest.
    metrics.pair(identities[0])
    metrics.pair(identities[1])
    metrics.pair(identities[2]).in_flight = 1
    metrics.pair(identities[-1])

    assert len(metrics) == MAX_PAIRS - 1
    assert identities[3] not in names(registry)
    assert {identities[0], identities[1], identities[2], identities[-1]} <= names(registry)


def test_pair_with_requests_in_flight_stays() -> None:
    metrics = Metrics(CollectorRegistry(), max_pairs=3)
    busy = metrics.pair(Identity("a" * 10, "0"))
    busy.in_flight = 1
    for number in range(10):
        metrics.pair(Identity("b" * 10, str(number)))

    assert metrics.is_current(busy)


def test_new_pair_counts_as_none_if_all_pairs_are_busy() -> None:
    metrics = Metrics(CollectorRegistry(), max_pairs=3)
    for number in range(2):
        metrics.pair(Identity("a" * 10, str(number))).in_flight = 1

    assert metrics.pair(Identity("b" * 10, "0")).identity == NONE
    assert metrics.pair(Identity("b" * 10, "1")) is metrics.pair(NONE)
    assert len(metrics) == 3


def test_removed_pair_starts_again_at_zero() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, max_pairs=2)
    who = Identity("a" * 10, "0")
    old = metrics.pair(who)
    old.started.inc()
    metrics.pair(Identity("b" * 10, "0"))
    assert not metrics.is_current(old)
    metrics.pair(who)

    assert registry.get_sample_value("serin_requests_started_total", {"revision": "a" * 10, "epoch": "0"}) == 0


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*map(str, range(32)), "none"]), st.booleans()), max_size=60)
)
def test_number_of_pairs_never_exceeds_limit(requests: list[tuple[int, str, bool]]) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, max_pairs=8)
    for revision, epoch, stays in requests:
        pair = metrics.pair(NONE if revision == 0 else Identity(f"{revision:010x}", epoch))
        pair.in_flight += stays
        assert metrics.is_current(pair)
        assert len(metrics) <= 8
    assert len(names(registry)) == len(metrics)


def test_size_of_full_metrics_page_is_bounded() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(MAX_PAIRS + 40):
        metrics.pair(Identity(f"{number % 2:010x}", str(number % 32))).observe(TIMES)
        metrics.pair(NONE)

    assert len(names(registry)) <= MAX_PAIRS
    assert len(generate_latest(registry).splitlines()) < 8000


def test_place_for_epoch_none_is_reserved_for_any_revision() -> None:
    metrics = Metrics(CollectorRegistry(), max_pairs=4)
    for number in range(5):
        metrics.pair(Identity("a" * 10, str(number))).in_flight += 1
    unstamped = metrics.pair(NONE)
    assert len(metrics) == 4
    unstamped.in_flight = 0
    # Idle, so it makes room for the pod's own.
    own = metrics.pair(Identity("a" * 10, "none"))
    assert own.identity == ("a" * 10, "none")
    assert len(metrics) == 4
    own.in_flight = 1
    # Busy: requests without a place of their own share it.
    for identity in (NONE, Identity("b" * 10, "none"), Identity("b" * 10, "3")):
        assert metrics.pair(identity) is own


def test_pairs_of_epoch_none_do_not_crowd_out_others() -> None:
    metrics = Metrics(CollectorRegistry(), max_pairs=4)
    for number in range(20):
        metrics.pair(Identity(f"{number:010x}", "none"))
    kept = [metrics.pair(Identity("a" * 10, str(number))) for number in range(3)]

    assert all(metrics.is_current(pair) for pair in kept)
    assert len(metrics) == 4
