"""The tests: against the specification's vectors, by enumeration, and with extreme input."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serin.__main__ import main
from serin.evidence.closed_form import Ceiling, ClosedForm
from serin.evidence.conditional import MOST_OPEN, RELEASE_SECONDS, ConditionalTest, Parameters
from serin.evidence.frozen_map import EMPTY
from serin.evidence.log_space import log_choose, log_sum
from serin.evidence.non_inferiority import NonInferiority
from serin.evidence.slices import Counts, Slice, Totals
from serin.replay.recorded import replay

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEYS = ("n1", "x1", "n0", "x0", "t", "epoch")
counts = st.tuples(st.integers(0, 400), st.integers(0, 400), st.floats(0, 1), st.floats(0, 1)).map(
    lambda c: (c[0], round(c[0] * c[2]), c[1], round(c[1] * c[3]))
)


def parameters_of(vector: dict[str, Any]) -> Parameters:
    return Parameters(vector["alpha"], vector["margin"], vector["cap"], vector["min_stratum"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_values_match_specification_vectors(vector: dict[str, Any]) -> None:
    test, proof = ConditionalTest(parameters_of(vector)), NonInferiority()
    simple, ceiling = ClosedForm(), Ceiling(0.05)
    for number, values in enumerate(vector["slices"]):
        s = Slice(*values)
        test = test.add(s)
        proof = proof.add(s)
        simple = simple.add(s)
        ceiling = ceiling.add(s.canary)
        assert test.log_e == pytest.approx(vector["log_e"][number], abs=1e-6)
        assert proof.log_e == pytest.approx(vector["non_inferiority_log_e"][number], abs=1e-6)
        assert proof.proven == vector["proven"][number]
        assert simple.log_e == pytest.approx(vector["closed_form_log_e"][number], abs=1e-6)
        assert ceiling.log_e == pytest.approx(vector["ceiling_5_percent_log_e"][number], abs=1e-6)
    assert test.rolled_back == vector["rolled_back"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_state_restored_after_each_slice_gives_same_values(vector: dict[str, Any]) -> None:
    test = ConditionalTest(parameters_of(vector))
    for number, values in enumerate(vector["slices"]):
        test = test.add(Slice(*values))
        stored = json.loads(json.dumps(test.state()))
        test = ConditionalTest.from_state(parameters_of(vector), stored)
        assert test.log_e == pytest.approx(vector["log_e"][number], abs=1e-6)


@pytest.mark.parametrize("cap", [None, 0.5])
@pytest.mark.parametrize("margin", [1.0, 1.25])
@pytest.mark.parametrize(("n1", "n0", "bad"), [(10, 40, 7), (30, 30, 30), (50, 50, 3), (5, 95, 40)])
def test_step_is_fair_by_enumeration(n1: int, n0: int, bad: int, margin: float, cap: float | None) -> None:
    """Under H0 the e-value, cut off at its upper limit, has mean 1: never more, and with the boost no less."""
    parameters = Parameters(margin=margin, cap=cap)
    top = -math.log(parameters.alpha) * (1 if cap is None else cap)
    support = range(max(0, bad - n0), min(n1, bad) + 1)
    law = [log_choose(n1, j) + log_choose(n0, bad - j) + j * math.log(margin) for j in support]
    total, mean = log_sum(law), 0.0
    for j, p in zip(support, law, strict=True):
        test = ConditionalTest(parameters)
        test = test.add(Slice(n1, j, n0, bad - j))
        mean += math.exp(p - total) * math.exp(min(test.log_e, top))
    assert mean == pytest.approx(1, abs=1e-9)


@settings(max_examples=200)
@given(st.lists(st.tuples(counts, st.floats(0, 5_000), st.integers(0, 40)), max_size=30))
def test_log_e_stays_finite_and_rollback_stays_true(
    slices: list[tuple[tuple[int, int, int, int], float, int]],
) -> None:
    test, rolled_back = ConditionalTest(), False
    for values, t, epoch in slices:
        test = test.add(Slice(*values, t, epoch))
        assert math.isfinite(test.log_e)
        assert 0 <= test.evidence <= 1
        assert len(test.open) <= MOST_OPEN
        assert test.rolled_back >= rolled_back
        rolled_back = test.rolled_back


def test_total_failure_at_high_rate_rolls_back_after_two_slices() -> None:
    """In probability space 600 of 600 underflows, and the test silently never fires."""
    test = ConditionalTest()
    for second in (15, 30):
        test = test.add(Slice(600, 600, 2400, 24, second))
    assert math.isfinite(test.log_e)
    assert test.rolled_back


def test_many_releases_at_once_equal_single_releases() -> None:
    at_once, step_by_step = ConditionalTest(), ConditionalTest()
    day = 24 * 3600
    at_once = at_once.add(Slice(0, 0, 0, 0, day))
    for release in range(1, day // RELEASE_SECONDS + 1):
        step_by_step = step_by_step.add(Slice(0, 0, 0, 0, release * RELEASE_SECONDS))
    assert at_once.releases == step_by_step.releases
    assert at_once.active == pytest.approx(step_by_step.active)
    assert at_once.log_e == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("state", [{}, {"version": 1}, [], None, {"version": 2, "open": {"a": []}}])
def test_unreadable_state_raises_error(state: Any) -> None:
    with pytest.raises(ValueError, match=r"^The stored state of the [a-z ]+ is damaged: "):
        ConditionalTest.from_state(Parameters(), state)
    other = ConditionalTest().state() | {"version": 1}
    with pytest.raises(ValueError, match="another version"):
        ConditionalTest.from_state(Parameters(), other)


@pytest.mark.parametrize(
    ("rate", "margin", "allowed"),
    [
        pytest.param(0.01, 1.25, 1.253, id="rare bad answers"),
        pytest.param(0.3, 1.1, 1.149, id="at 30 percent"),
        pytest.param(0.5, 1.25, 5 / 3, id="at a median"),
        pytest.param(0.5, 1.0, 1.0, id="no margin"),
    ],
)
def test_margin_of_rates_allows_odds_by_the_stables_rate(rate: float, margin: float, allowed: float) -> None:
    n = 1_000_000
    closed = Totals(n, 0, n, round(n * rate))
    stratum = Totals(20, round(40 * rate), 20, 0)
    of_rates = ConditionalTest(Parameters(margin=margin, of_rates=True), closed=closed).close(stratum, EMPTY)
    of_odds = ConditionalTest(Parameters(margin=allowed), closed=closed).close(stratum, EMPTY)
    assert of_rates.log_e == pytest.approx(of_odds.log_e, abs=0.01)


def test_canary_at_margin_times_the_rate_is_not_rolled_back() -> None:
    """With a margin on odds, all of them are: 62.5 % bad has 1.67 times the odds of 50 %."""
    rolled_back = {True: 0, False: 0}
    for rates in rolled_back:
        for seed in range(5):
            random, test = Random(seed), ConditionalTest(Parameters(margin=1.25, of_rates=rates))
            for number in range(60):
                x1, x0 = (sum(random.random() < p for _ in range(n)) for n, p in ((20, 0.625), (60, 0.5)))
                test = test.add(Slice(20, x1, 60, x0, 15.0 * number))
            rolled_back[rates] += test.rolled_back
    assert rolled_back == {True: 0, False: 5}


def test_closed_totals_include_strata_without_information() -> None:
    test = ConditionalTest()
    test = test.add(Slice(2, 1, 50, 0, 15, 0))  # too few canary requests: stays open
    assert test.closed == Totals(0, 0, 0, 0)
    test = test.add(Slice(2, 0, 50, 1, 30, 0))
    assert test.closed == Totals(4, 1, 100, 1)
    test = test.add(Slice(5, 0, 50, 0, 45, 0))  # no bad request: no information
    test = test.add(Slice(1, 1, 0, 0, 60, 1))  # stays open until the release closes it
    assert test.closed == Totals(9, 1, 150, 1)
    test = test.add(Slice(0, 0, 0, 0, 615, 2))
    assert test.closed == Totals(10, 2, 150, 1)
    assert ConditionalTest.from_state(Parameters(), json.loads(json.dumps(test.state()))) == test


@pytest.mark.parametrize("requests", [1, 3, 50])
@pytest.mark.parametrize("rate", [0.005, 0.02, 0.5, 1.0])
def test_add_canary_alone_keeps_expectation_at_most_one(requests: int, rate: float) -> None:
    """By enumeration at bad rates of the canary that H allows where the stable has none: E[e] <= 1."""
    expected = 0.0
    for bad in range(requests + 1):
        proof = NonInferiority().add_canary_alone(Counts(requests, bad))
        expected += math.comb(requests, bad) * rate**bad * (1 - rate) ** (requests - bad) * math.exp(proof.log_e)
    assert expected <= 1 + 1e-9


def test_still_needed_is_within_factor_two() -> None:
    proof, seen = NonInferiority(), Slice(100, 1, 300, 3)
    proof = proof.add(seen)
    needed = proof.still_needed(seen)
    assert needed
    more = 0
    while not proof.proven:
        proof = proof.add(seen)
        more += 100
    assert 0.5 * more <= needed <= 2 * more
    assert NonInferiority(rho=1, delta=0).still_needed(seen) is None  # no tolerance: nothing can be proven
    assert NonInferiority().still_needed(Slice(0, 0, 300, 3)) is None


def test_replay_gives_line_per_slice_and_restarts_on_reset() -> None:
    lines = []
    for vector in VECTORS:
        lines.append(json.dumps({"reset": {k: vector[k] for k in ("alpha", "margin", "cap", "min_stratum")}}))
        lines += [json.dumps(dict(zip(KEYS, values, strict=True))) for values in vector["slices"]]
    answers = list(replay(lines))
    expected = [log for vector in VECTORS for log in vector["log_e"]]
    assert [a["log_e"] for a in answers] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "3",
        '{"n1": 1}',
        '{"n1": -1, "x1": 0, "n0": 1, "x0": 0}',
        '{"n1": 1, "x1": 2, "n0": 1, "x0": 0}',
        '{"n1": 1.5, "x1": 0, "n0": 1, "x0": 0}',
        '{"n1": true, "x1": 0, "n0": 1, "x0": 0}',
        '{"n1": 1, "x1": 0, "n0": 1, "x0": 0, "t": "soon"}',
        '{"n1": 1, "x1": 0, "n0": 1, "x0": 0, "t": NaN}',
        '{"n1": 1, "x1": 0, "n0": 1, "x0": 0, "t": -1}',
        '{"n1": 1, "x1": 0, "n0": 1, "x0": 0, "what": 1}',
        '{"n1": 1e400, "x1": 0, "n0": 1, "x0": 0}',
        '{"n1": 9999999999999999999999, "x1": 0, "n0": 1, "x0": 0}',
        '{"reset": 3}',
        '{"reset": {"alpha": 2}}',
        '{"reset": {"margin": 0.5}}',
        '{"reset": {"cap": 0}}',
        '{"reset": {"min_stratum": 0}}',
        '{"reset": {"min_stratum": 2.5}}',
        '{"reset": {"most_open": 0}}',
        '{"reset": {"most_open": 2.5}}',
        '{"reset": {"stratum_seconds": -1}}',
        '{"reset": {"alpha": null}}',
        '{"reset": {"beta": 1}}',
        '{"reset": {"of_rates": 1}}',
    ],
)
def test_invalid_line_gives_error_and_is_ignored(line: str) -> None:
    good = json.dumps({"n1": 10, "x1": 1, "n0": 90, "x0": 9})
    [first, bad, second] = replay([good, line, good])
    assert bad["error"].startswith("Line 2: ")
    assert [first, second] == list(replay([good, good]))


def test_command_prints_line_per_slice_and_fails_on_invalid_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.dumps({"n1": 10, "x1": 1, "n0": 90, "x0": 9})
    for text, status in ((f"{good}\n", 0), (f"{good}\noops\n\n{good}\n", 2)):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        with pytest.raises(SystemExit) as ended:
            main(["evidence"])
        assert ended.value.code == status
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        given = [line for line in text.splitlines() if line]
        assert ["error" in line for line in lines] == [line == "oops" for line in given]
