"""The rows of docs/reference/decision-engine.md, section 9: what is played, and its limit. Called by `main`.

margin 1.0, alpha 0.01, base rate 1 %, slices of 15 s, 40 minutes. `bad` is the mean expected excess of bad answers
until the rollback has taken effect; a run without one is charged the whole ramp.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.stats import norm

from bench.decision import peers, rollouts
from bench.decision.kernel import Floats, Ints, parameters
from bench.decision.play import Played, Player
from serin.evidence.boundaries import QUANTILES
from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.log_space import log_choose, log_sum
from serin.evidence.ramp import AdaptiveRamp
from serin.evidence.slices import Slice
from serin.simulation.runs import wald_bound

ALPHA, BASE, SLICES = 0.01, 0.01, 160
FLAT, DRIFT = np.full(SLICES, BASE), np.linspace(BASE, 0.08, SLICES)
TEST = parameters(ALPHA, 1.0, 0.5)
HYSTERESIS = np.array([AdaptiveRamp.keep_down, AdaptiveRamp.keep_up])
NULLS, ALTERNATIVES, OTHERS = 10_000, 4_000, 4_000
"""Runs per scenario."""
TRAFFIC = (0.5, 2.0, 20.0, 200.0)
RATIOS = (1.5, 2.0, 5.0, 20.0, 90.0)
RULES = {"Argo Rollouts": peers.ARGO, "Flagger": peers.FLAGGER, "Kayenta": peers.KAYENTA}
SPREAD = 0.5
"""Standard deviation of the logarithm of the time to first token; section 9 names none."""


@dataclass(frozen=True)
class Row:
    """One line of the table, in words."""

    scenario: str
    limit: str
    serin: str
    holds: bool | None = None
    """Whether what is demanded was reached; None: nothing is."""
    missed: str = ""
    """What section 9 asks for and was not reached, although it is not demanded here."""
    bound: str = ""
    fixed: str = ""
    others: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Measurements:
    """Everything that is played; each scenario once, when it is first asked for."""

    player: Player

    @functools.cache  # noqa: B019 - one instance, as long as the process
    def serin(self, rps: float, ratio: float, mode: int, *, drift: bool = False, lag: float = 0.0) -> Played:
        """Errors, from the start."""
        rates = DRIFT if drift else FLAT
        call = partial(_ratio, rps, rates, ratio, 0, mode, lag, HYSTERESIS)
        runs = NULLS if ratio == 1 else ALTERNATIVES
        return self.player.play(f"serin {rps} {ratio} {mode} {drift} {lag}", runs, rps, SLICES, call)

    @functools.cache  # noqa: B019 - as above
    def peer(self, rule: str, rps: float, ratio: float, *, drift: bool = False, slow: bool = False) -> Played:
        """The same traffic under the rule of another."""
        rates = DRIFT if drift else FLAT
        return self._peer(rule, rps, ratio, rates, 0, slow=slow)

    def _peer(self, rule: str, rps: float, ratio: float, rates: Floats, onset: int, *, slow: bool = False) -> Played:
        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return peers.rule_runs(gen, arrivals, rates, ratio, onset, RULES[rule], peers.MINUTE, slow)

        return self.player.play(f"{rule} {rps} {ratio} {rates[-1]} {onset} {slow}", OTHERS, rps, len(rates), call)

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of section 9."""
        yield from self._nulls()
        yield from self._alternatives()
        yield from self._latency()
        yield from self._late()
        yield from self._durations()
        yield from self._time_outs()
        yield from self._first_token()
        yield _fairness()
        yield _extremes()
        yield self._good_canary()
        yield Row(
            "real Prometheus, canary born failing",
            ">= 94 % of its failures counted; stable counted exactly",
            "59 of 59: tests/integration/counting, on a real Prometheus",
        )

    def _nulls(self) -> Iterator[Row]:
        for drift, rps in itertools.product((False, True), TRAFFIC):
            adaptive = self.serin(rps, 1.0, rollouts.ADAPTIVE, drift=drift)
            fixed = self.serin(rps, 1.0, rollouts.FIXED, drift=drift)
            yield Row(
                f"identical canary, {rps:g} rps, {'drifting to 8 %' if drift else 'flat'}",
                "P <= .01 + 3 SE",
                _p(adaptive),
                _rare(adaptive) and _rare(fixed),
                fixed=_p(fixed),
                others={rule: _p(self.peer(rule, rps, 1.0, drift=drift)) for rule in RULES},
            )

    def _alternatives(self) -> Iterator[Row]:
        limits = {
            200.0: dict(zip(RATIOS, (33, 18, 9, 6.5, 13), strict=True)),
            20.0: dict(zip(RATIOS, (35, 23, 9.5, 6.5, 8.5), strict=True)),
            2.0: {5.0: 11, 20.0: 7.5},
        }
        for rps, by_ratio in limits.items():
            for ratio, limit in by_ratio.items():
                played, least = self.serin(rps, ratio, rollouts.ADAPTIVE), ""
                holds = played.bad <= limit
                if (rps, ratio) == (20.0, 1.5):
                    least, holds = ", P >= .84", holds and played.p >= 0.84
                yield Row(
                    f"{_worse(ratio)}, {rps:g} rps",
                    f"{limit:g} bad{least}",
                    _bad(played),
                    holds,
                    bound=_to_bound(played, ratio),
                    fixed=_bad(self.serin(rps, ratio, rollouts.FIXED)),
                    others={rule: _bad(self.peer(rule, rps, ratio)) for rule in RULES},
                )

    def _latency(self) -> Iterator[Row]:
        for ratio, limit in ((2.0, 21.0), (20.0, 8.5), (90.0, 21.0)):
            played = self.serin(200.0, ratio, rollouts.ADAPTIVE, lag=20.0)
            scenario = f"{_worse(ratio)}, 200 rps, 20 s from decision to effect"
            yield Row(scenario, f"{limit:g} bad", _bad(played), played.bad <= limit, bound=_to_bound(played, ratio))

    def _late(self) -> Iterator[Row]:
        for hours, limit in ((0, 32), (1, 46), (4, 58)):
            onset = hours * 240
            call = partial(_ratio, 200.0, np.full(onset + SLICES, BASE), 2.0, onset, rollouts.CONSTANT, 0.0, HYSTERESIS)
            played = self.player.play(f"late {hours}", OTHERS, 200.0, onset + SLICES, call)
            bound = _to_bound(played, 2.0)
            scenario = f"x2 that begins after {hours} h at 25 %, 200 rps"
            yield Row(scenario, f"{limit} bad", _bad(played, onset), played.bad <= limit, bound=bound)
        onset = 3 * rollouts.STEP_SLICES
        call = partial(_ratio, 200.0, FLAT, 2.0, onset, rollouts.FIXED, 0.0, HYSTERESIS)
        played = self.player.play("50 % step", ALTERNATIVES, 200.0, SLICES, call)
        others = {}
        for rule in ("Argo Rollouts", "Kayenta"):
            others[rule] = _bad(self._peer(rule, 200.0, 2.0, FLAT, onset), onset)
        yield Row(
            "x2 that begins at the 50 % step of a fixed ramp, 200 rps",
            "72 bad",
            "(fixed ramp)",
            played.bad <= 72,
            bound=_to_bound(played, 2.0),
            fixed=_bad(played, onset),
            others={**others, "Flagger": "its ramp is over by then"},
        )

    def _durations(self) -> Iterator[Row]:
        for stamped in (True, False):
            adaptive, fixed = (self._identical(mode, stamped=stamped) for mode in (rollouts.ADAPTIVE, rollouts.FIXED))
            yield Row(
                "identical canary, bad 0.3 s, good 30 s, 200 rps" + ("" if stamped else ", *without* epochs"),
                "P <= .01 + 3 SE" if stamped else "(why there are epochs)",
                _p(adaptive),
                _rare(adaptive) and _rare(fixed) if stamped else None,
                fixed=_p(fixed),
                others={rule: _p(self.peer(rule, 200.0, 1.0, slow=True)) for rule in RULES} if stamped else {},
            )

    def _identical(self, mode: int, *, stamped: bool) -> Played:
        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return rollouts.durations(gen, arrivals, 200.0, BASE, mode, stamped, HYSTERESIS, TEST)

        return self.player.play(f"durations {mode} {stamped}", OTHERS, 200.0, SLICES, call)

    def _time_outs(self) -> Iterator[Row]:
        # Stable's time-outs: its q99.9 duration is 60 s. Stable's failures quick: 30 s, unless it is set to 60.
        cases = (
            ("the stable's failures are time-outs, too", 4, 60.0),
            ("the stable's failures are quick, settle time set to 60 s", 1, 60.0),
            ("the stable's failures are quick, settle time left at 30 s", 1, 30.0),
        )
        for words, stable, settle in cases:
            worst = {
                mode: max(self._promoted(rps, mode, stable, settle) for rps in (20.0, 200.0))
                for mode in (rollouts.ADAPTIVE, rollouts.FIXED)
            }
            yield Row(
                f"failures are 60 s time-outs, twice the tolerance, 20 and 200 rps; {words}",
                "P(promoted) <= .05",
                f"P(promoted) {worst[rollouts.ADAPTIVE]:.3f}",
                max(worst.values()) <= 0.05,
                fixed=f"P(promoted) {worst[rollouts.FIXED]:.3f}",
            )

    def _promoted(self, rps: float, mode: int, stable: int, settle: float) -> float:
        rates, bake = np.array([2 * (1.25 * BASE + 0.005), BASE]), rollouts.STEP_SLICES

        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return rollouts.time_outs(gen, arrivals, rps, rates, stable, mode, settle, bake, HYSTERESIS, TEST)

        return self.player.play(f"time-outs {rps} {mode} {stable} {settle}", OTHERS, rps, SLICES, call).p

    def _first_token(self) -> Iterator[Row]:
        stable = 1 - np.array(QUANTILES)
        slower = norm.sf(norm.ppf(QUANTILES) - math.log(1.2) / SPREAD)
        adaptive, fixed = rollouts.ADAPTIVE, rollouts.FIXED
        null = _p(self._argo_first_token(stable, 0.0))
        for words, limit, above, hang, late in (
            ("TTFT x1.2, 20 rps", 350, slower, 0.0, 0),
            ("1 % of requests hang, counted at once, 20 rps", 1300, stable, 0.01, 0),
            ("1 % of requests hang, counted after 60 s, 20 rps", 1300, stable, 0.01, rollouts.HANG_SLICES),
        ):
            ours, steps = (self._histogram(above, hang, late, mode) for mode in (adaptive, fixed))
            # On the adaptive ramp the minute until a hang is counted alone is 300 requests: told, not demanded.
            kept = ours.requests <= limit
            holds = steps.requests <= limit and (late > 0 or kept)
            argo = self._argo_first_token(above, hang)
            yield Row(
                words,
                f"{limit} canary requests",
                f"{ours.requests:.0f} requests",
                holds and ours.p > 0.99 and steps.p > 0.99,
                fixed=f"{steps.requests:.0f} requests",
                missed="" if kept else "adaptive ramp: **no**, see below",
                others={"Argo Rollouts": f"{argo.requests:.0f} requests, {_p(argo)} ({null} of identical ones)"},
            )
        ours, steps = (self._histogram(stable, 0.0, 0, mode) for mode in (adaptive, fixed))
        scenario = "TTFT identical, 20 rps, six boundaries"
        yield Row(scenario, "P <= .01 + 3 SE", _p(ours), _rare(ours) and _rare(steps), fixed=_p(steps))

    def _histogram(self, above: Floats, hang: float, late: int, mode: int) -> Played:
        both = np.array([above, 1 - np.array(QUANTILES)])
        share = parameters(ALPHA / len(QUANTILES), 1.0, 0.5)

        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return rollouts.histogram(gen, arrivals, 20.0, both, hang, late, BASE, mode, 1, HYSTERESIS, share)

        return self.player.play(f"ttft {above[0]} {hang} {late} {mode}", OTHERS, 20.0, SLICES, call)

    def _argo_first_token(self, above: Floats, hang: float) -> Played:
        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return peers.argo_histogram(gen, arrivals, above[3:4], hang)

        return self.player.play(f"argo ttft {above[0]} {hang}", OTHERS, 20.0, SLICES, call)

    def _good_canary(self) -> Row:
        played = self.serin(200.0, 1.0, rollouts.ADAPTIVE)
        minutes = played.at_max or math.inf
        return Row(
            "good canary at 200 rps reaches w_max",
            "<= 5 minutes, median",
            f"{minutes:.2f} minutes",
            minutes <= 5,
            fixed="20 minutes",
            others={rule: _minutes(self.peer(rule, 200.0, 1.0).at_max) for rule in RULES},
        )

    def hysteresis(self) -> Iterator[tuple[str, Played, Played]]:
        """What the hysteresis costs and saves at 200 rps: the scenario, with it, without it."""
        for ratio in (1.0, 1.5, 2.0, 5.0):
            call = partial(_ratio, 200.0, FLAT, ratio, 0, rollouts.ADAPTIVE, 0.0, np.zeros(2))
            without = self.player.play(f"no hysteresis {ratio}", OTHERS, 200.0, SLICES, call)
            name = "identical" if ratio == 1 else _worse(ratio)
            yield name, self.serin(200.0, ratio, rollouts.ADAPTIVE), without


def _ratio(
    rps: float,
    rates: Floats,
    ratio: float,
    onset: int,
    mode: int,
    lag: float,
    hysteresis: Floats,
    gen: np.random.Generator,
    arrivals: Ints,
) -> Floats:
    return rollouts.ratio(gen, arrivals, rps, rates, ratio, onset, mode, 0.25, lag, hysteresis, TEST)


def _fairness() -> Row:
    worst = 0.0
    for (n1, n0, bad), margin, cap in itertools.product(
        ((10, 40, 7), (30, 30, 30), (50, 50, 3), (5, 95, 40), (100, 900, 12), (600, 2400, 30)),
        (1.0, 1.1, 1.25, 2.0),
        (None, 0.5),
    ):
        p = Parameters(margin=margin, cap=cap)
        top = -math.log(p.alpha) * (cap or 1)
        support = range(max(0, bad - n0), min(n1, bad) + 1)
        law = [log_choose(n1, j) + log_choose(n0, bad - j) + j * math.log(margin) for j in support]
        total, terms = log_sum(law), []
        for j, log_p in zip(support, law, strict=True):
            test = ConditionalTest(p).add(Slice(n1, j, n0, bad - j))
            terms.append(math.exp(log_p - total + min(test.log_e, top)))
        worst = max(worst, abs(math.fsum(terms) - 1))
    scenario, limit = "one-step fairness by enumeration, 48 strata", "E[min(E, 1/alpha)] = 1 within 1e-9"
    return Row(scenario, limit, f"off by {'less than 1e-9' if worst < 1e-9 else f'{worst:.1e}'}", worst < 1e-9)


def _extremes() -> Row:
    """Each stratum twice: the cap lets no single one decide. `True`: it must roll back."""
    cases = {
        Slice(600, 600, 2400, 24): True,
        Slice(600, 540, 2400, 24): True,
        Slice(25_000, 20_000, 75_000, 750): True,
        Slice(50_000, 500, 50_000, 500): False,
        Slice(600, 600, 2400, 2400): False,
        Slice(600, 300, 0, 0): False,
        Slice(600, 0, 2400, 0): False,
    }
    right, slowest = True, 0.0
    for s, expected in cases.items():
        test = ConditionalTest().add(s)
        seconds = [_timed(partial(test.add, s))]
        test = test.add(s)
        right &= math.isfinite(test.log_e) and test.rolled_back == expected
        if s.n1 <= 600:
            seconds += [_timed(partial(ConditionalTest().add, s)) for _ in range(9)]
            slowest = max(slowest, statistics.median(seconds))
    words = f"{'finite and right' if right else 'wrong'}, {'< 20 ms' if slowest < 0.02 else f'{slowest * 1e3:.0f} ms'}"
    limit = "finite, right, < 20 ms at n1 <= 600"
    return Row("600 of 600 bad; 1e5 requests in a slice; X = N; n0 = 0", limit, words, right and slowest < 0.02)


def _timed(call: Callable[[], object]) -> float:
    """Seconds of processor time: what else the machine does is not counted."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def _rare(played: Played) -> bool:
    p = max(played.p, ALPHA)
    return played.p <= ALPHA + 3 * math.sqrt(p * (1 - p) / len(played.runs))


def _worse(ratio: float) -> str:
    return "to 90 %" if ratio == 90 else f"x{ratio:g}"


def _p(played: Played) -> str:
    return f"P {played.p:.4f}" if 0 < played.p < 0.1 else f"P {played.p:.2f}" if played.p else "P 0"


def _bad(played: Played, onset: int = 0) -> str:
    late = Played(played.runs[(played.runs[:, 0] < 0) | (played.runs[:, 0] >= onset)])
    share = f", P {late.p:.2f}" if late.p < 0.995 else ""
    digits = 1 if played.bad < 100 else 0
    return f"{played.bad:.{digits}f} ± {played.bad_se:.{max(digits, 1)}f}{share}"


def _to_bound(played: Played, ratio: float) -> str:
    bound = wald_bound(BASE, BASE * ratio, ALPHA)
    return f"{played.bad / bound:.2f}" if bound else ""


def _minutes(minutes: float | None) -> str:
    return "never" if minutes is None else f"{minutes:g} minutes"
