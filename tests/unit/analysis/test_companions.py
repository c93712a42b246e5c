"""The comparisons that every trial makes: which, with which part of alpha, and what they count."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from serin.analysis.answers import Kind, kind_of_code, kind_of_outcome
from serin.analysis.companions import absent, baseline_tallies, companions, share_left
from serin.analysis.counts import Baseline, Interval, Names, Tally
from serin.analysis.measurement import Measurement
from serin.analysis.presets import DEFAULT_SERIES, requests
from serin.evidence.slices import Counts
from tests.unit.rollout.cases import NOON, A, B

OVERDUE, SETTLED, CODES = baseline_tallies(DEFAULT_SERIES, measured=True)
OUTCOMES = Tally("serin_requests_total", by="outcome")
LES = ("30", "60", "120", "300", "600")


def silence(*shares: float, requests: float = 1_000.0) -> dict[Tally, Mapping[str, float]]:
    """What the baseline reads where these shares of the requests are silent for 30, 60, 120, 300 and 600 s."""
    return {
        OVERDUE: {le: requests * share for le, share in zip(LES, shares, strict=True)},
        SETTLED: dict.fromkeys(LES, requests),
    }


QUICK = silence(0.0, 0.0, 0.0, 0.0, 0.0)
GATEWAY = {CODES: {"200": 900.0, "500": 3.0}}


def made(
    histograms: Mapping[Tally, Mapping[str, float]] | None = None,
    *,
    measured: bool = True,
    sticky: bool = False,
    names: tuple[str, ...] = ("errors",),
) -> dict[str, Measurement]:
    baseline = Baseline(NOON, 5.0, histograms or {})
    found = companions(DEFAULT_SERIES, baseline, 0.01, measured=measured, sticky=sticky, names=names)
    return {measurement.name: measurement for measurement in found}


@pytest.mark.parametrize(
    ("histograms", "names", "left"),
    [
        pytest.param({}, ["excluded"], 0.8, id="pods of version 0.1, no gateway"),
        pytest.param(QUICK, ["excluded", "overdue"], 0.6, id="no gateway"),
        pytest.param(GATEWAY, ["excluded", "gateway"], 0.6, id="pods of version 0.1"),
        pytest.param(QUICK | GATEWAY, ["excluded", "overdue", "gateway"], 0.4, id="all"),
    ],
)
def test_comparisons_whose_series_the_stable_has_share_alpha(
    histograms: dict[Tally, Mapping[str, float]], names: list[str], left: float
) -> None:
    found = made(histograms)
    assert list(found) == names
    assert {round(m.parameters.alpha, 12) for m in found.values()} == {0.002}
    assert share_left(list(found.values())) == pytest.approx(left)
    assert set(absent(list(found.values()))) == {"excluded", "overdue", "gateway"} - set(names)


@pytest.mark.parametrize(
    ("shares", "le"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0), "30"),
        ((0.02, 0.0, 0.0, 0.0, 0.0), "30"),
        ((0.3, 0.01, 0.0, 0.0, 0.0), "60"),
        ((0.9, 0.9, 0.5, 0.02, 0.0), "300"),
        ((0.9, 0.9, 0.9, 0.9, 0.9), "600"),
    ],
)
def test_silence_is_the_shortest_that_the_stable_hardly_has(shares: tuple[float, ...], le: str) -> None:
    overdue = made(silence(*shares))["overdue"]
    assert overdue.tallies == (
        Tally(f'serin_requests_overdue_total{{le="{le}"}}'),
        Tally(f'serin_requests_settled_total{{le="{le}"}}'),
    )
    assert (overdue.young_seconds, overdue.settle_seconds) == (int(le) + 15.0, float(le))


def test_silence_of_stable_without_requests_is_a_minute() -> None:
    assert made(silence(0.0, 0.0, 0.0, 0.0, 0.0, requests=0.0))["overdue"].settle_seconds == 60.0


def test_name_of_a_users_metric_takes_precedence() -> None:
    assert list(made(QUICK, names=("excluded", "errors"))) == ["serin-excluded", "overdue"]


def test_excluded_answers_reject_no_canary_where_clients_stay_at_one_backend() -> None:
    found = made(QUICK, sticky=True)
    assert (found["excluded"].rejects, found["overdue"].rejects) == (False, True)
    assert share_left(list(found.values())) == pytest.approx(0.8)


def test_gateway_neither_steers_nor_holds_the_ramp() -> None:
    assert {name: m.steers for name, m in made(QUICK | GATEWAY).items()} == {
        "excluded": True, "overdue": True, "gateway": False,
    }  # fmt: skip


def test_excluded_counts_all_outcomes_and_codes_without_middleware() -> None:
    points = {(B, 1, "ok"): 5, (B, 1, "excluded"): 3, (B, 1, "left"): 2, (A, 1, "server_error"): 4}
    assert made()["excluded"].counts(Interval(NOON, NOON, {OUTCOMES: points})) == {
        (B, 1): (Counts(10, 3),),
        (A, 1): (Counts(4, 0),),
    }
    codes = {(B, None, "200"): 5, (B, None, "404"): 3, (B, None, "499"): 2, (A, None, "503"): 4, (A, None, "0"): 9}
    excluded = made(measured=False)["excluded"]
    assert excluded.total == requests(DEFAULT_SERIES, measured=False)
    assert excluded.total.names is Names.BACKEND
    assert excluded.counts(Interval(NOON, NOON, {excluded.total: codes})) == {
        (B, None): (Counts(10, 3),),
        (A, None): (Counts(4, 0),),
    }


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        (Kind.GOOD, "200 201 204 299"),
        (Kind.BAD, "400 413 422 500 502 503 504 599"),
        (Kind.EXCLUDED, "301 302 304 307 308 401 402 403 404 405 409 410 415 429 451"),
        (Kind.LEFT, "408 499"),
        (None, "0 5xx 2000 600 ²00"),
    ],
)
def test_every_response_code_has_one_kind(kind: Kind | None, codes: str) -> None:
    assert {code: kind_of_code(code) for code in codes.split()} == dict.fromkeys(codes.split(), kind)
    assert kind_of_code("") is None


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("ok", Kind.GOOD), ("excluded", Kind.EXCLUDED), ("left", Kind.LEFT), ("aborted", Kind.BAD), ("newer", Kind.GOOD)],
)
def test_every_outcome_has_one_kind(outcome: str, kind: Kind) -> None:
    assert kind_of_outcome(outcome) is kind
