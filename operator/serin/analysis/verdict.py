"""The verdict: is the canary worse than the stable beside it, or proven no worse? Pass, Fail or Inconclusive.

What was counted is tested in `serin.evidence`; here the tests of all metrics become one verdict, with a sentence for
each that a tired person understands. `Judgement` is all that the rest of the core knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from serin.analysis.measurement import Generated, How, Measurement
from serin.analysis.trial_state import MetricState, ThroughputState, TrialState
from serin.evidence.metric import MetricTests
from serin.evidence.noise import Noise
from serin.evidence.slices import Counts


class Verdict(StrEnum):
    """Silence is never Pass and never Fail."""

    PASS = "Pass"  # noqa: S105 - a verdict, not a password
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    NOT_APPLICABLE = "NotApplicable"
    """Of one metric only: nothing of it was seen on either side, so it blocks nothing."""


@dataclass(frozen=True)
class MetricJudgement:
    """One metric: what was counted and what follows."""

    name: str
    canary: Counts | None
    """None of what is shown without counting requests."""
    stable: Counts | None
    evidence: float
    """How strongly the counts speak against the canary, 0-1 of what a rollback needs."""
    verdict: Verdict
    message: str
    required: bool = True
    needed: float = 0.0
    """About how many more canary requests a proof needs; infinite: not at this rate."""
    noisy: bool = False
    """Whether the stable's own pods differ by more than chance: then nothing is proven."""


@dataclass(frozen=True)
class Judgement:
    """The verdict over all metrics, with the sentence that explains it."""

    verdict: Verdict
    message: str
    metrics: tuple[MetricJudgement, ...] = ()


NOTHING_YET = Judgement(Verdict.INCONCLUSIVE, "No request has been counted yet.")


def judge(state: TrialState | None) -> Judgement:
    """The verdict on a trial: a Required metric that fails decides at once, a Pass needs the proof of all."""
    if state is None:
        return NOTHING_YET
    metrics = (
        *map(_judge_metric, state.metrics),
        *map(_throughput, state.throughputs),
    )
    required = [metric for metric in metrics if metric.required]
    if failed := next((metric for metric in required if metric.verdict is Verdict.FAIL), None):
        return Judgement(Verdict.FAIL, failed.message, metrics)
    applicable = [metric for metric in required if metric.verdict is not Verdict.NOT_APPLICABLE]
    if not applicable:
        return Judgement(Verdict.INCONCLUSIVE, _silence(required), metrics)
    open_ = [metric for metric in applicable if metric.verdict is Verdict.INCONCLUSIVE]
    if open_:
        return Judgement(Verdict.INCONCLUSIVE, max(open_, key=lambda metric: metric.needed).message, metrics)
    return Judgement(Verdict.PASS, " ".join(metric.message for metric in applicable), metrics)


def _throughput(state: ThroughputState) -> MetricJudgement:
    """Displayed only: nobody knows whether the answers of both sides are equally long."""
    name, canary, stable = state.throughput.name, state.canary, state.stable
    verdict = Verdict.INCONCLUSIVE if canary.milliseconds or stable.milliseconds else Verdict.NOT_APPLICABLE
    rates = f"canary {_per_second(canary)}, stable {_per_second(stable)}"
    message = f"{name}: tokens by second of answering, shown and not tested: {rates}."
    return MetricJudgement(name, None, None, 0.0, verdict, message, required=False)


def _per_second(generated: Generated) -> str:
    return f"{1000 * generated.tokens / generated.milliseconds:.3g}" if generated.milliseconds else "not seen"


def _silence(required: Sequence[MetricJudgement]) -> str:
    names = ", ".join(metric.name for metric in required)
    return f"No request has been counted yet on either side ({names}); check that traffic flows and is scraped."


def _judge_metric(state: MetricState) -> MetricJudgement:
    measurement, tests = state.measurement, state.tests
    leaf = tests.strongest
    noisy = measurement.required and state.noise.noisy
    provable = measurement.comparable and not tests.incomparable and not noisy
    verdict = _verdict(tests, provable=provable)
    needed = 0.0 if provable else math.inf
    if verdict is Verdict.INCONCLUSIVE and provable:
        leaf, missing = tests.still_needed()
        needed = math.inf if missing is None else missing
    total = tests.totals_with_carried_over(leaf)
    counts = f"canary {_told(measurement, leaf, total.canary)}, stable {_told(measurement, leaf, total.stable)}"
    return MetricJudgement(
        name=measurement.name,
        canary=total.canary,
        stable=total.stable,
        evidence=tests.evidence,
        verdict=verdict,
        message=f"{measurement.name}: {_sentence(measurement, tests, state.noise, verdict, needed)}: {counts}.",
        required=measurement.required,
        needed=needed,
        noisy=noisy,
    )


def _verdict(tests: MetricTests, *, provable: bool) -> Verdict:
    if tests.rolled_back:
        return Verdict.FAIL
    if tests.incomparable:
        return Verdict.INCONCLUSIVE
    if not tests.exposed:
        return Verdict.NOT_APPLICABLE
    return Verdict.PASS if tests.proven and provable else Verdict.INCONCLUSIVE


def _sentence(measurement: Measurement, tests: MetricTests, noise: Noise, verdict: Verdict, needed: float) -> str:
    p = measurement.parameters
    limit = f"a rate of {_percent(p.ceiling)}" if p.ceiling is not None else None
    match verdict:
        case Verdict.FAIL:
            return f"the canary is above {limit}" if limit else "the canary is worse than the stable"
        case Verdict.NOT_APPLICABLE:
            return "not seen on either side"
        case Verdict.PASS:
            tolerance = f"no worse than {p.ratio:g} times the stable plus {_percent(p.absolute)}"
            return f"the canary is proven to be {f'below {limit}' if limit else tolerance}"
        case Verdict.INCONCLUSIVE:
            return _open(measurement, tests, noise, limit, needed)


def _open(measurement: Measurement, tests: MetricTests, noise: Noise, limit: str | None, needed: float) -> str:
    """Why there is neither proof nor rollback."""
    if in_the_way := _in_the_way(measurement, tests, noise, limit):
        return in_the_way
    excluded = limit or f"a {measurement.parameters.ratio:g}-fold rate"
    if needed == math.inf:
        return f"not reachable at this rate: {excluded} cannot be excluded, however many requests follow"
    return f"needs about {max(1, math.ceil(needed))} more canary requests to exclude {excluded}"


def _in_the_way(measurement: Measurement, tests: MetricTests, noise: Noise, limit: str | None) -> str | None:
    """Why nobody can say how many more requests it takes; None where one can."""
    if not measurement.comparable:
        return (
            "not comparable, because the stable had not shown it, or it could not be read, when the canary began; make "
            "it Advisory or wait until it has, then abort and retry"
        )
    if tests.incomparable:
        return (
            "not comparable, because the two sides' histograms have no bucket in common; make it Advisory, then abort "
            "and retry"
        )
    if tests.shared or tests.exceeded:
        own = f"the canary is above {limit}, but not known to be worse than the stable"
        both = f"the stable is above {limit} as well, so the canary is not to blame"
        return (both if tests.shared else own) + (" and nothing is promoted" if measurement.required else "")
    if measurement.required and noise.noisy:
        return f"not provable, because the stable's own pods differ by more than chance ({_noise(noise)})"
    total = tests.totals[0]
    if total.n1 and (total.n0 or limit):
        return None
    return f"no request of the {'stable' if total.n1 else 'canary'} has been counted yet"


def _noise(noise: Noise) -> str:
    """How they differ, and what to look for."""
    if noise.halves_differ:
        return "one half of them is worse than the other; find the pod that stands out, then abort and retry"
    dispersion = f"dispersion {noise.dispersion or 0:.1f}, where chance gives 1"
    return f"{dispersion}: bad answers gather in single pods; compare them, then abort and retry"


def _told(measurement: Measurement, leaf: int, counts: Counts) -> str:
    if measurement.how is not How.ABOVE or not measurement.parameters.boundaries:
        return f"{counts.bad} bad of {counts.requests}"
    unit = f" {measurement.unit}" if measurement.unit else ""
    return f"{counts.bad} of {counts.requests} above {measurement.parameters.boundaries[leaf]:g}{unit}"


def _percent(rate: float | None) -> str:
    return f"{100 * (rate or 0):.3g} %"


def ramp_tests(state: TrialState) -> list[MetricTests]:
    """The tests that the adaptive ramp follows: of Required ratios. Latencies say nothing about bad answers."""
    return [
        metric.tests
        for metric in state.metrics
        if metric.measurement.required
        and metric.measurement.how is not How.ABOVE
        and metric.measurement.parameters.ceiling is None
        and metric.tests.exposed
    ]
