"""Checks as metrics: what is read and counted of them, what a trial pins, and what the pods are asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serin.analysis import presets
from serin.analysis.companions import skipped_checks
from serin.analysis.counts import Baseline, Tally
from serin.analysis.measurement import How
from serin.analysis.pod_checks import checks_for
from serin.analysis.presets import DEFAULT_SERIES, measurements, optional, tallies
from serin.analysis.stored_state import from_json, to_json
from serin.analysis.trial_state import MetricState
from serin.analysis.verdict import Verdict, judge, ramp_tests
from serin.api.analysis import Analysis
from serin.evidence.slices import Counts, Totals
from tests.unit.analysis.measured import interval, made
from tests.unit.rollout.cases import NOON, make_evidence

ERRORS = {"name": "errors", "preset": "ErrorRate"}
FORMAT = {"name": "format", "check": {"kind": "Regex", "pattern": "^{", "sample": 0.5}}
SCHEMA = {"name": "schema", "check": {"kind": "Schema"}}
COUNTER = Tally('serin_checks_total{check="format"}', by="result")
ENTRY = {"name": "format", "kind": "Regex", "pattern": "^{", "sample": 0.5}


def analysis(*metrics: dict[str, Any]) -> Analysis:
    return Analysis.model_validate({"metrics": list(metrics)})


def state(*metrics: dict[str, Any], **facts: Any) -> Any:
    pinned = measurements(analysis(*metrics), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=True, **facts)
    return make_evidence(metrics=tuple(map(MetricState.begin, pinned)))


def test_check_reads_its_own_counter_by_result() -> None:
    _, found = made(ERRORS, FORMAT)
    assert (found.how, found.total, found.bad, found.required) == (How.CHECK, COUNTER, None, True)
    assert COUNTER in tallies(analysis(ERRORS, FORMAT), DEFAULT_SERIES, measured=True)
    assert COUNTER not in optional(analysis(ERRORS, FORMAT), DEFAULT_SERIES, measured=True)
    assert COUNTER in optional(analysis(ERRORS, FORMAT | {"mode": "Advisory"}), DEFAULT_SERIES, measured=True)


def test_fails_are_bad_passes_good_and_skipped_answers_are_not_counted() -> None:
    _, found = made(ERRORS, FORMAT)
    points = {("a", 7, "pass"): 90, ("a", 7, "fail"): 10, ("a", 7, "skipped"): 50, ("b", 7, "skipped"): 3}
    assert found.counts(interval(COUNTER, points)) == {("a", 7): (Counts(100, 10),)}


def test_answers_that_a_required_check_could_not_judge_are_compared() -> None:
    advisory = FORMAT | {"name": "shown", "mode": "Advisory"}
    own = made(ERRORS, FORMAT, {"name": "slo", "ceiling": {"of": "format", "rate": 0.05}}, advisory)
    [found] = skipped_checks(own, 0.01)
    assert (found.name, found.how, found.total, found.required) == (
        "format-skipped", How.SKIPPED_CHECK, COUNTER, True,
    )  # fmt: skip
    assert (found.rejects, found.steers, found.compares_pods) == (False, True, False), "it holds, and takes no alpha"
    points = {("a", 7, "pass"): 90, ("a", 7, "fail"): 10, ("a", 7, "skipped"): 50, ("a", 7, "later"): 4}
    assert found.counts(interval(COUNTER, points)) == {("a", 7): (Counts(150, 50),)}
    begun = make_evidence(metrics=(MetricState.begin(found),))
    assert from_json(to_json(begun)) == begun
    assert checks_for(analysis(ERRORS), begun) == (ENTRY,)
    taken = made(FORMAT | {"name": "format-skipped"}, FORMAT)
    assert [each.name for each in skipped_checks(taken, 0.01)] == ["format-skipped-skipped", "serin-format-skipped"]


def test_canary_with_answers_that_cannot_be_judged_is_held_and_not_rejected() -> None:
    metric = MetricState.begin(*skipped_checks(made(ERRORS, FORMAT), 0.01))
    tests = metric.tests
    for epoch in range(4):
        tests = tests.add([Totals(1000, 500, 1000, 10)], t=60.0 * epoch, epoch=epoch, settled=True)
    judged = judge(make_evidence(metrics=(replace(metric, tests=tests),)))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.message == (
        "format-skipped: more of the canary's answers than of the stable's could not be judged, beyond doubt, so the "
        "check says too little about the canary, which is held; such answers are too long, or take the check too long: "
        "look at them and at the load of the canary's pods, then promote or abort: canary 2000 of 4000 not judged by "
        "the check, stable 40 of 4000 not judged by the check."
    )


def test_check_has_the_parameters_of_a_ratio() -> None:
    _, found, ratio = made(ERRORS, FORMAT, {"name": "own", "ratio": {"bad": "b", "total": "t"}})
    assert found.parameters == ratio.parameters
    assert found.compares_pods
    assert not ratio.compares_pods


def test_limit_on_a_check_reads_the_check() -> None:
    _, found, limit = made(ERRORS, FORMAT, {"name": "slo", "ceiling": {"of": "format", "rate": 0.05}})
    assert (limit.how, limit.total, limit.parameters.ceiling) == (How.CHECK, COUNTER, 0.05)
    assert limit.check == found.check


def test_ramp_follows_a_check() -> None:
    begun = state(FORMAT)
    assert ramp_tests(begun) == []
    [metric] = begun.metrics
    counted = replace(metric, tests=metric.tests.add([Totals(100, 1, 100, 1)], t=1.0, epoch=1, settled=True))
    assert ramp_tests(replace(begun, metrics=(counted,))) == [counted.tests]


def test_check_that_one_side_cannot_make_is_only_reported() -> None:
    facts: dict[str, Any] = {"unjudged": frozenset({"schema"})}
    _, plain, schema, limit = measurements(
        analysis(ERRORS, FORMAT, SCHEMA, {"name": "slo", "ceiling": {"of": "schema", "rate": 0.05}}),
        DEFAULT_SERIES,
        Baseline(NOON, 10.0),
        measured=True,
        **facts,
    )
    assert (plain.required, plain.demoted) == (True, False)
    assert (schema.required, schema.demoted) == (limit.required, limit.demoted) == (False, True)
    begun = state(ERRORS, SCHEMA, **facts)
    metric = begun.metrics[1]
    tests = metric.tests.add([Totals(1000, 900, 1000, 0)], t=1.0, epoch=1, settled=True)
    judged = judge(replace(begun, metrics=(begun.metrics[0], replace(metric, tests=tests)))).metrics[1]
    assert not judged.required
    assert "one side has no outputSchema in its prompt, or pods that cannot make the check" in judged.message


def test_counts_say_what_failed() -> None:
    begun = state(FORMAT)
    tests = begun.metrics[0].tests.add([Totals(1000, 900, 1000, 3)], t=1.0, epoch=1, settled=True)
    [judged] = judge(replace(begun, metrics=(replace(begun.metrics[0], tests=tests),))).metrics
    counts = ": canary 900 of 1000 failed the check, stable 3 of 1000 failed the check."
    assert judged.message.startswith("format: ")
    assert judged.message.endswith(counts)


def test_pods_are_asked_what_the_spec_has_without_a_trial() -> None:
    assert checks_for(analysis(ERRORS), None) == ()
    limit = {"name": "slo", "ceiling": {"of": "format", "rate": 0.05}}
    found = checks_for(analysis(ERRORS, FORMAT | {"mode": "Advisory"}, limit, SCHEMA), None)
    assert found == (ENTRY, {"name": "schema", "kind": "Schema"})


def test_pods_are_asked_what_the_trial_pinned_whatever_becomes_of_the_spec() -> None:
    limit = {"name": "slo", "ceiling": {"of": "format", "rate": 0.05}}
    assert checks_for(analysis(ERRORS, SCHEMA), state(ERRORS, FORMAT, limit)) == (ENTRY,)
    assert checks_for(analysis(ERRORS, SCHEMA), state(ERRORS)) == ()


def test_pinned_check_is_stored_and_absent_in_states_of_earlier_versions() -> None:
    begun = state(ERRORS, FORMAT)
    assert from_json(to_json(begun)) == begun
    written = to_json(begun)
    for measurement in written["measurements"]:
        del measurement["check"]
    assert checks_for(analysis(FORMAT), from_json(written)) == ()


def test_largest_checks_are_stored() -> None:
    largest = "\u0001" * 256
    metrics = [
        {"name": f"m{n}", "check": {"kind": kind, name: [largest] * 16}}
        for n, (kind, name) in enumerate((("Contains", "texts"), ("Refusal", "patterns")))
    ]
    begun = state(*metrics)
    assert from_json(to_json(begun)) == begun


@pytest.mark.parametrize("measured", [True, False])
def test_check_is_always_read_from_the_pods(*, measured: bool) -> None:
    [found] = measurements(analysis(FORMAT), DEFAULT_SERIES, Baseline(NOON, 10.0), measured=measured)
    assert found.total == COUNTER
    assert found.described == presets.FAILED_CHECK
