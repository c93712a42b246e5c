"""`serin simulate`: random numbers, arithmetic, reproducibility for a seed, and output."""

from __future__ import annotations

import json
import math
import statistics
from itertools import accumulate, pairwise
from random import Random
from typing import Any

import pytest
from scipy.stats import chisquare
from scipy.stats import poisson as law

from serin.__main__ import main
from serin.evidence.conditional import ConditionalTest
from serin.simulation.poisson import poisson
from serin.simulation.runs import Run, Scenario, run_all, run_one, summarise, wald_bound

KEYS = {"p_rollback", "mean_excess_bad", "median_delay_s", "wald_bound", "ratio_to_bound", "runs", "settings"}


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


@pytest.mark.parametrize("mean", [0, 0.3, 9.9, 10.1, 60, 2_900], ids=lambda mean: f"mean {mean}")
def test_poisson_numbers_follow_their_distribution(mean: float) -> None:
    random, draws = Random("poisson"), 20_000
    numbers = [poisson(random, mean) for _ in range(draws)]
    assert statistics.fmean(numbers) == pytest.approx(mean, abs=5 * math.sqrt(mean / draws) + 1e-12)
    if not mean:
        return
    edges = sorted({int(law.ppf(q, mean)) for q in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)})
    bins = [-1, *edges, math.inf]
    seen = [sum(low < n <= high for n in numbers) for low, high in pairwise(bins)]
    expected = [draws * float(law.cdf(high, mean) - law.cdf(low, mean)) for low, high in pairwise(bins)]
    large = [i for i, value in enumerate(expected) if value > 5]
    scale = sum(seen[i] for i in large) / sum(expected[i] for i in large)
    assert chisquare([seen[i] for i in large], [expected[i] * scale for i in large]).pvalue > 1e-4


@pytest.mark.parametrize(("ratio", "bound"), [(1.5, 21.0), (2, 11.8), (5, 4.5), (20, 2.0)], ids=lambda v: f"{v}")
def test_wald_bound_matches_specification(ratio: float, bound: float) -> None:
    assert wald_bound(0.01, 0.01 * ratio, 0.01) == pytest.approx(bound, abs=0.05)


def test_wald_bound_is_none_for_canary_within_margin() -> None:
    assert wald_bound(0.01, 0.01, 0.01) is None
    assert wald_bound(0.01, 0.012, 0.01, margin=1.25) is None
    assert wald_bound(0.01, 1.0, 0.01) == pytest.approx(0.99)
    assert wald_bound(0.0, 0.5, 0.01) == 0.0


def test_slow_answers_keep_strata_of_young_epoch_open() -> None:
    at_once, after = (
        [run_one(Scenario(200, ratio=90, ramp="fixed", answer_seconds=s), Random(n)).seconds for n in range(20)]
        for s in (0.0, 30.0)
    )
    assert set(at_once) == {30.0}  # two strata: no single stratum is enough for a rollback
    assert min(seconds or 0.0 for seconds in after) == 75.0  # young for 30 s and one slice, then two strata


def test_run_uses_the_operators_test_on_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = []
    add = ConditionalTest.add
    monkeypatch.setattr(ConditionalTest, "add", lambda test, s, **more: (fed.append(s), add(test, s, **more))[1])
    run = run_one(Scenario(ratio=5), Random(1))
    assert run.seconds == fed[-1].t == 15 * len(fed)
    assert run.canary_requests == sum(s.n1 for s in fed)
    assert run.excess_bad == pytest.approx(run.canary_requests * 0.04)
    tests = list(accumulate(fed, add, initial=ConditionalTest()))
    assert [test.rolled_back for test in tests] == [False] * len(fed) + [True]


def test_fixed_ramp_holds_each_step_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: dict[int, list[int]] = {}

    def count(test: ConditionalTest, s: Any, **_: bool) -> ConditionalTest:
        side = shares.setdefault(s.epoch, [0, 0, 0])
        side[:] = [side[0] + 1, side[1] + s.n1, side[2] + s.n1 + s.n0]
        return test

    monkeypatch.setattr(ConditionalTest, "add", count)
    run_one(Scenario(rps=100, ramp="fixed"), Random(2))
    assert [slices for slices, _, _ in shares.values()] == [40, 40, 80]
    assert [n1 / n for _, n1, n in shares.values()] == pytest.approx([0.05, 0.25, 0.5], abs=0.01)


def test_result_depends_on_seed_not_on_processes() -> None:
    scenario = Scenario(ratio=5, minutes=20)
    alone, together = run_all(scenario, 8, seed=3, jobs=1), run_all(scenario, 8, seed=3, jobs=2)
    assert alone == together
    assert run_all(scenario, 8, seed=4, jobs=1) != alone
    assert run_all(scenario, 4, seed=3, jobs=1) == alone[:4]


def test_bad_canary_is_rolled_back_and_good_one_stays() -> None:
    bad, good = Scenario(ratio=20), Scenario(ratio=1, minutes=10)
    assert summarise(bad, run_all(bad, 20, 0, jobs=1)).p_rollback == 1
    assert summarise(good, run_all(good, 20, 0, jobs=1)).p_rollback <= 0.05


def test_runs_without_rollback_add_excess_but_no_delay() -> None:
    summary = summarise(
        Scenario(),
        [Run(30.0, None, 10, 0.5), Run(90.0, None, 20, 1.5), Run(None, 600.0, 300, 4.0), Run(None, None, 400, 6.0)],
    )
    assert (summary.p_rollback, summary.median_delay_s, summary.mean_excess_bad) == (0.5, 60.0, 3.0)
    assert summary.p_rollback_se == pytest.approx(0.25)
    assert (summary.p_promoted, summary.median_promotion_s) == (0.25, 600.0)
    assert summary.mean_canary_requests == 182.5
    assert summarise(Scenario(ratio=1), [Run(None, None, 1, 0.0)]).median_delay_s is None


def test_json_option_prints_one_complete_object(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--ratio", "20", "--runs", "10", "--minutes", "10", "--seed", "7", "--jobs", "1", "--json")
    status, out, err = simulate(capsys, *arguments)
    result = json.loads(out)
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert result.keys() >= KEYS
    assert result["settings"]["seed"] == 7
    assert result["wald_bound"] == pytest.approx(2.04, abs=0.01)
    assert simulate(capsys, *arguments)[1] == out


def test_default_output_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = simulate(capsys, "--ratio", "20", "--runs", "5", "--minutes", "10", "--jobs", "1")
    assert status == 0
    assert out.startswith("5 trials of 10 min at 20 requests/s, adaptive ramp\n")
    assert "excess bad answers for any test (Wald)" in out
    _, out, _ = simulate(capsys, "--ratio", "1", "--runs", "2", "--minutes", "1", "--ramp", "fixed", "--jobs", "1")
    assert "no trial was rolled back" in out
    assert "the canary is within the margin, so every rollback is wrong" in out


def test_help_names_steps_of_fixed_ramp(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = simulate(capsys, "--help")
    assert status == 0
    assert "5, 25, 50 percent, 600 s per step" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rps", "0"], "is not a number from 0.001 to 100000."),
        (["--rps", "many"], "is not a number from 0.001 to 100000."),
        (["--base-rate", "1.5"], "is not a number from 0 to 1."),
        (["--base-rate", "nan"], "is not a number from 0 to 1."),
        (["--ratio", "-1"], "is not a number from 0 to 1e+06."),
        (["--ratio", "200"], "give a smaller --ratio."),
        (["--runs", "0"], "is not a whole number from 1 to 1000000."),
        (["--runs", "2.5"], "is not a whole number from 1 to 1000000."),
        (["--minutes", "0"], "is not a number from 1 to 10000."),
        (["--margin", "0.9"], "is not a number from 1 to 1000."),
        (["--alpha", "0"], "is not a number from 1e-12 to 0.5."),
        (["--seed", "-1"], "is not a whole number from 0 to"),
        (["--ramp", "steep"], "give adaptive or fixed."),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_invalid_argument_gives_message_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = simulate(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
