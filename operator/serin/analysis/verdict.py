"""The verdict on a canary: Pass, Fail or Inconclusive, with a sentence for each metric that says why.

`serin.evidence` tests the counts; here the tests of all metrics become one verdict. Called by `serin.rollout.canary`;
the other modules know only `Judgement`. A sentence says what was found, why, what to do, and the counts. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from serin.analysis.measurement import Generated, How, Measurement
from serin.analysis.proof_time import about, canary_rate, significant
from serin.analysis.trial_state import MetricState, ThroughputState, TrialState
from serin.evidence.metric import MarginOf, MetricParameters, MetricTests
from serin.evidence.noise import Noise
from serin.evidence.pods_at_load import PodsAtLoad
from serin.evidence.slices import Counts

NOT_AT_EQUAL_LOAD = "not comparable at equal load: pods of one side cannot count latencies by load"
NOT_JUDGED = "not comparable: one side has no outputSchema in its prompt, or pods that cannot make the check"


class Verdict(StrEnum):
    """Missing data is neither Pass nor Fail."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    DIFFERS = "Differs"
    """Of one Advisory metric only: what would be a Fail if the metric were Required."""
    NOT_APPLICABLE = "NotApplicable"
    """Of one metric only: there are no samples on either side, so it is ignored."""


@dataclass(frozen=True)
class MetricJudgement:
    """One metric: what was counted and what follows."""

    name: str
    canary: Counts | None
    """None for a throughput, which counts no requests."""
    stable: Counts | None
    evidence: float
    """How strongly the counts speak against the canary, as a share of what a rollback needs, 0 to 1."""
    verdict: Verdict
    message: str
    required: bool = True
    needed: float = 0.0
    """Estimated number of further canary requests until a proof; infinite: no number is enough at these rates."""
    noisy: bool = False
    """Whether the stable's own pods differ by more than chance; then no proof is possible."""
    without_need: str = ""
    """The message where no proof is needed any more; empty if it is the same."""


@dataclass(frozen=True)
class Judgement:
    """The verdict over all metrics, with the sentence that explains it."""

    verdict: Verdict
    message: str
    metrics: tuple[MetricJudgement, ...] = ()

    def in_holdback(self) -> Judgement:
        """The judgement as a holdback reports it: without the requests that a second proof would need.

        The holdback comes after the proof. The stable gets so little traffic in it that the proof weakens, however good
        the canary is.
        """
        metrics = tuple(
            replace(metric, message=metric.without_need, needed=0.0) if metric.without_need else metric
            for metric in self.metrics
        )
        messages = {before.message: after.message for before, after in zip(self.metrics, metrics, strict=True)}
        return replace(self, message=messages.get(self.message, self.message), metrics=metrics)


NOTHING_YET = Judgement(Verdict.INCONCLUSIVE, "No request has been counted yet.")


def judge(state: TrialState | None) -> Judgement:
    """The verdict on a trial: one Required metric that fails is a Fail, and a Pass needs the proof of all of them."""
    if state is None:
        return NOTHING_YET
    metrics = (
        *(_judge_metric(metric, canary_rate(state)) for metric in state.metrics),
        *map(_throughput, state.throughputs),
    )
    required = [metric for metric in metrics if metric.required]
    if failed := next((metric for metric in required if metric.verdict is Verdict.FAIL), None):
        return Judgement(Verdict.FAIL, failed.message, metrics)
    applicable = [metric for metric in required if metric.verdict is not Verdict.NOT_APPLICABLE]
    if not required:
        return Judgement(Verdict.INCONCLUSIVE, " ".join(metric.message for metric in metrics), metrics)
    if not applicable:
        return Judgement(Verdict.INCONCLUSIVE, _silence(required), metrics)
    unproven = [metric for metric in applicable if metric.verdict is Verdict.INCONCLUSIVE]
    if unproven:
        return Judgement(Verdict.INCONCLUSIVE, max(unproven, key=lambda metric: metric.needed).message, metrics)
    return Judgement(Verdict.PASS, " ".join(metric.message for metric in applicable), metrics)


def _throughput(state: ThroughputState) -> MetricJudgement:
    """Displayed only: the answers of the two sides may differ in length."""
    name, canary, stable = state.throughput.name, state.canary, state.stable
    verdict = Verdict.INCONCLUSIVE if canary.milliseconds or stable.milliseconds else Verdict.NOT_APPLICABLE
    rates = f"canary {_per_second(canary)}, stable {_per_second(stable)}"
    message = f"{name}: tokens per second of answering, displayed but not tested: {rates}."
    return MetricJudgement(name, None, None, 0.0, verdict, message, required=False)


def _per_second(generated: Generated) -> str:
    per_second = 1000 * generated.tokens / generated.milliseconds if generated.milliseconds else None
    return "no samples" if per_second is None else significant(per_second, 3)


def _silence(required: Sequence[MetricJudgement]) -> str:
    names = ", ".join(metric.name for metric in required)
    return (
        f"No request has been counted yet on either side ({names}); check that requests arrive and that the pods are "
        "scraped."
    )


def _judge_metric(state: MetricState, rate: float | None) -> MetricJudgement:
    measurement, tests = state.measurement, state.tests
    leaf = tests.strongest
    noisy = measurement.required and state.noise.noisy
    provable = (
        measurement.comparable and not measurement.demoted and not (tests.incomparable or tests.little_overlap or noisy)
    )
    verdict = _verdict(tests, provable=provable)
    if verdict is Verdict.FAIL and not measurement.required:
        verdict = Verdict.DIFFERS
    elif verdict is Verdict.FAIL and not measurement.rejects:
        verdict = Verdict.INCONCLUSIVE
    needed = 0.0 if provable else math.inf
    if verdict is Verdict.INCONCLUSIVE and provable:
        leaf, missing = tests.still_needed()
        needed = math.inf if missing is None else missing
    total = tests.totals_with_carried_over(leaf)
    canary = _counts(measurement, leaf, total.canary, canary=True)
    stable = _counts(measurement, leaf, total.stable, canary=False)
    counted = f"canary {canary}, stable {stable}"
    finding = _finding(state, verdict, needed, rate)
    return MetricJudgement(
        name=measurement.name,
        canary=total.canary,
        stable=total.stable,
        evidence=tests.evidence,
        verdict=verdict,
        message=f"{measurement.name}: {finding}" + ("." if verdict is Verdict.NOT_APPLICABLE else f": {counted}."),
        required=measurement.required,
        needed=needed,
        noisy=noisy,
        without_need=(
            f"{measurement.name}: no second proof is needed: {counted}."
            if verdict is Verdict.INCONCLUSIVE and _obstacle(state) is None
            else ""
        ),
    )


def _verdict(tests: MetricTests, *, provable: bool) -> Verdict:
    if tests.rolled_back:
        return Verdict.FAIL
    if tests.incomparable:
        return Verdict.INCONCLUSIVE
    if not tests.exposed:
        return Verdict.NOT_APPLICABLE
    return Verdict.PASS if tests.proven and provable else Verdict.INCONCLUSIVE


def _finding(state: MetricState, verdict: Verdict, needed: float, rate: float | None) -> str:
    p = state.measurement.parameters
    if verdict is Verdict.NOT_APPLICABLE:
        return "no samples on either side; this metric is ignored"
    if verdict in {Verdict.FAIL, Verdict.DIFFERS}:
        return _worse(state)
    errors = state.measurement.how in {How.OUTCOME, How.CODE}
    tolerated = _tolerance(p, errors=errors)
    if verdict is Verdict.PASS:
        return f"the canary is proven to be {_proven(p, tolerated)}"
    if obstacle := _obstacle(state) or speaks_against(state):
        return obstacle
    ruled_out = (
        tolerated if p.ceiling is None else f"{'an error rate' if errors else 'a bad rate'} above {_percent(p.ceiling)}"
    )
    if p.margin_of is MarginOf.TIMES:
        ruled_out = f"that the canary is more than {p.ratio:g} times as slow at equal load"
    if needed == math.inf:
        change = "widen the metric's tolerance" if p.ceiling is None else "raise the limit"
        return f"at the observed rates, no number of requests can rule out {ruled_out}; abort the canary or {change}"
    return _more(needed, rate, ruled_out)


def _proven(p: MetricParameters, tolerated: str) -> str:
    if p.margin_of is MarginOf.TIMES:
        return (
            f"at most {p.ratio:g} times as slow as the stable at equal load, plus {_points(p.absolute)} of the requests"
        )
    return f"no worse than {tolerated}" if p.ceiling is None else f"below {_limit(p.ceiling)}"


def _more(needed: float, rate: float | None, ruled_out: str) -> str:
    """How many requests are missing, and for how long at the canary's rate in requests per second."""
    more = max(1, math.ceil(needed))
    if rate is None:
        return f"needs about {more} more canary requests to rule out {ruled_out}"
    present = f"about {about(more / rate)} at its present {significant(rate, 2)} requests/s"
    return f"needs about {more} more canary requests ({present}) to rule out {ruled_out}"


def _tolerance(p: MetricParameters, *, errors: bool) -> str:
    """The tolerance with both of its parts: `1.5 times the stable's error rate plus 0.2 percentage points`."""
    times, points = f"{p.ratio:g}", _points(p.absolute)
    if not p.absolute:
        return f"{times} times the stable's error rate" if errors else f"{times} times the stable's bad rate"
    if errors:
        return f"{times} times the stable's error rate plus {points}"
    return f"{times} times the stable's bad rate plus {points}"


def _points(share: float) -> str:
    """A share of all requests: `0.2 percentage points`."""
    points = f"{100 * share:.3g}"
    return f"{points} percentage point{'' if points == '1' else 's'}"


def _worse(state: MetricState) -> str:
    """How the canary is worse, and for an Advisory metric that this decides nothing."""
    measurement, p = state.measurement, state.measurement.parameters
    if p.ceiling is not None:
        worse = f"the canary is above {_limit(p.ceiling)}"
    elif p.margin_of is MarginOf.TIMES:
        worse = f"the canary is more than {p.margin:g} times as slow as the stable at equal load"
    elif measurement.demoted:
        worse = f"the canary differs from the stable, but {_why_demoted(measurement)}"
    else:
        worse = "the canary is worse than the stable"
    return worse if measurement.required else f"{worse} (Advisory: decides nothing)"


def _obstacle(state: MetricState) -> str | None:
    """Why no number of requests that would be enough can be estimated; None if it can."""
    measurement, tests, ceiling = state.measurement, state.tests, state.measurement.parameters.ceiling
    if incomparable := _incomparable(state):
        return incomparable
    if ceiling is not None and (tests.shared or tests.exceeded):
        return _limit_exceeded(ceiling, shared=tests.shared, required=measurement.required)
    if measurement.required and state.noise.noisy:
        return f"no proof is possible, because the stable's own pods differ by more than chance: {_noise(state.noise)}"
    total = tests.totals[0]
    if total.n1 and (total.n0 or ceiling is not None):
        return None
    side = "stable" if total.n1 else "canary"
    return f"no request of the {side} has been counted yet; check that requests reach it and that its pods are scraped"


def _incomparable(state: MetricState) -> str | None:
    """Why canary and stable cannot be compared; None if they can."""
    measurement, tests = state.measurement, state.tests
    if measurement.demoted:
        return f"proves nothing, because it is {_why_demoted(measurement)}"
    if tests.little_overlap:
        share = min(leaf.overlap for leaf in tests.comparisons)
        return (
            f"not comparable: load per pod differs; only {100 * share:.0f} % of the canary's requests have requests of "
            "the stable at the same load. Give both sides about the same number of requests per pod, or make the "
            "metric Advisory, then abort and retry"
        )
    if not measurement.comparable:
        return (
            "cannot be compared, because the stable had no samples that could be read when the canary began; wait "
            "until it has, or make the metric Advisory, then abort and retry"
        )
    if tests.incomparable:
        return (
            "cannot be compared, because the histograms of canary and stable have no bucket in common, or none for "
            "+Inf; give both the same buckets, or make the metric Advisory, then abort and retry"
        )
    return None


def _why_demoted(measurement: Measurement) -> str:
    return NOT_JUDGED if measurement.how is How.CHECK else NOT_AT_EQUAL_LOAD


def _limit_exceeded(ceiling: float, *, shared: bool, required: bool) -> str:
    if shared:
        held = "; nothing is promoted until the stable recovers" if required else ""
        return f"the stable is above {_limit(ceiling)} too, so the canary is not the cause" + held
    held = "; it is not promoted: wait for more requests of the stable, or abort" if required else ""
    return f"the canary is above {_limit(ceiling)}, but is not known to be worse than the stable" + held


AGAINST = 0.5
"""log E of a comparison above which the canary gets no more weight: the counts speak against it, if only a little.

Open strata count as they are. Else the first two requests of a canary, both bad, would let it have the next step.
"""


def speaks_against(state: MetricState) -> str | None:
    """Why the counts of a Required comparison allow no more weight, as part of a sentence; None if they do."""
    measurement, tests = state.measurement, state.tests
    if not (measurement.required and measurement.steers and tests.comparisons):
        return None
    if tests.rolled_back and measurement.how is How.SKIPPED_CHECK:
        return (
            "more of the canary's answers than of the stable's could not be judged, beyond doubt, so the check says "
            "too little about the canary, which is held; such answers are too long, or take the check too long: look "
            "at them and at the load of the canary's pods, then promote or abort"
        )
    if tests.rolled_back and not measurement.rejects:
        return (
            "the canary differs from the stable beyond doubt, and is held; clients stay at one side (routing.sticky or "
            "routing.gateway.sessionPersistence), so single clients can cause it: look at the requests, then promote "
            "or abort"
        )
    # Strata of load are many and small: the open ones together would often speak against an equal canary.
    few = measurement.how is not How.AT_LOAD
    if max(max(c.log_e, c.test.log_e_if_closed if few else c.log_e) for c in tests.comparisons) <= AGAINST:
        return None
    return (
        f"the counts speak against the canary ({100 * tests.evidence:.0f} % of what a rollback needs); its weight does "
        "not grow until more requests have changed that"
    )


def against_more_weight(state: TrialState | None) -> str | None:
    """The sentence of the first Required comparison that allows no more weight; None if all do."""
    for metric in state.metrics if state else ():
        if finding := speaks_against(metric):
            tests, measurement = metric.tests, metric.measurement
            total = tests.totals_with_carried_over(tests.strongest)
            sides = (
                _counts(measurement, tests.strongest, counts, canary=canary)
                for counts, canary in ((total.canary, True), (total.stable, False))
            )
            return "{}: {}: canary {}, stable {}.".format(measurement.name, finding, *sides)
    return None


def _noise(noise: Noise | PodsAtLoad) -> str:
    """How the pods differ, and what to do."""
    if isinstance(noise, PodsAtLoad):
        return f"at equal load {noise.outlier or 'one of them'} differs from the others; check it, then abort and retry"
    if noise.halves_differ:
        return "one half of them is worse than the other; find the pod that differs, then abort and retry"
    dispersion = f"dispersion {noise.dispersion or 0:.1f}, where chance gives 1"
    return f"bad requests gather in single pods ({dispersion}); compare the pods, then abort and retry"


def _counts(measurement: Measurement, leaf: int, counts: Counts, *, canary: bool) -> str:
    if measurement.described:
        return f"{counts.bad} of {counts.requests} {measurement.described}"
    if not measurement.parameters.boundaries:
        return f"{counts.bad} bad of {counts.requests}"
    unit = f" {measurement.unit}" if measurement.unit else ""
    return f"{counts.bad} of {counts.requests} above {measurement.boundary(leaf, canary=canary):.4g}{unit}"


def _limit(ceiling: float) -> str:
    return f"the limit of {_percent(ceiling)}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def ramp_tests(state: TrialState) -> list[MetricTests]:
    """The tests that the adaptive ramp follows: of Required ratios. Latencies say nothing about bad answers.

    Not the gateway's: its series have no epoch, so they are not counted for a while after each change of weight.
    """
    return [
        metric.tests
        for metric in state.metrics
        if metric.measurement.required
        and metric.measurement.steers
        and metric.measurement.how not in {How.ABOVE, How.AT_LOAD}
        and metric.measurement.parameters.ceiling is None
        and metric.tests.exposed
    ]


def ramp_comparisons(state: TrialState) -> list[tuple[float, float]]:
    """Log E against the canary and log e of its proof, of every Required comparison that has counted a request.

    Not the gateway's. A weight above the first limit of an adaptive ramp needs all of them. Only closed strata and full
    pools are in them.
    """
    return [
        (comparison.log_e, comparison.proof.log_e)
        for metric in state.metrics
        if metric.measurement.required and metric.measurement.steers and metric.tests.exposed
        for comparison in metric.tests.comparisons
    ]
