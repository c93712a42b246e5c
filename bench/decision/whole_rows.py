"""The rows of requests that never become an ordinary answer, and what a team gets; called by `main` and `report`.

Limits are the figures that the design was chosen by (whole minutes, so half a minute is added), with 10 % slack.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.decision import whole
from bench.decision.kernel import BUDGET, Floats, Ints
from bench.decision.play import Player
from bench.decision.rows import ALPHA, BASE, HYSTERESIS, RULES, Measurements, Row
from bench.decision.whole import GROWING, PROMOTED, ROLLED_BACK, STEPS, WITHDRAWN, Ends

RUNS, IDENTICAL = 500, 1000
"""Runs per scenario."""
SLICES, LONG = 960, 2400
"""Four hours; ten where there are 0.5 requests/s."""
EXCLUDED, LEFT = 0.005, 0.01
"""Shares of excluded answers, and of clients that leave, of a healthy side."""
POD = (whole.ERRORS, whole.EXCLUDED, whole.OVERDUE)
ALL = (*POD, whole.GATEWAY)
RAMPS = {GROWING: "default", STEPS: "steps"}
OFF = (ROLLED_BACK, WITHDRAWN)


@dataclass(frozen=True)
class Side:
    """Shares of one side's requests that fail, are excluded, hang, are lost before the pod, or whose client leaves."""

    fails: float = BASE
    excluded: float = EXCLUDED
    hangs: float = 0.0
    lost: float = 0.0
    leaves: float = LEFT

    @property
    def rates(self) -> tuple[float, ...]:
        """In the order of `whole`."""
        return self.fails, self.excluded, self.hangs, self.lost, self.leaves


HEALTHY = Side()


@dataclass(eq=False)
class WholeTrials:
    """Everything that is played here; each scenario once, when it is first asked for."""

    player: Player
    measured: Measurements
    """The rules of others on the same traffic."""

    @functools.cache  # noqa: B019 - one instance, as long as the process
    def play(
        self,
        rps: float,
        canary: Side,
        mode: int,
        *,
        stable: Side = HEALTHY,
        made: tuple[int, ...] = POD,
        guards: bool = True,
        lenient: bool = False,
        grows_below: float = whole.GROWS_BELOW,
        runs: int = RUNS,
    ) -> Ends:
        """Trials of the canary against the stable, at `rps` requests per second, on the ramp `mode`."""
        rates, compared = np.array([canary.rates, stable.rates]), whole.comparisons(made, ALPHA)
        blast, tolerances = whole.budget(rps) if mode == GROWING else BUDGET, whole.tolerances(rps)

        def call(gen: np.random.Generator, arrivals: Ints) -> Floats:
            return whole.trials(
                gen, arrivals, rps, rates, mode, blast, compared, tolerances, guards, lenient, grows_below, HYSTERESIS
            )

        name = f"whole {rps} {canary} {stable} {mode} {made} {guards} {lenient} {grows_below}"
        return Ends(self.player.play(name, runs, rps, LONG if rps < 1 else SLICES, call).runs)

    def rows(self) -> Iterator[Row]:
        """All rows."""
        yield from self._hangs()
        yield from self._excluded()
        yield from self._lost()
        yield from self._leaves()
        yield from self._identical()
        yield from self._holds()

    def _hangs(self) -> Iterator[Row]:
        # Minutes and hung requests. Held steps take longer and harm less, so one of the two is enough.
        steps = {2.0: ((14, 7), (6, 6), (3, 6))}
        default = {20.0: ((5, 17), (4, 15), (2, 17)), 200.0: ((4, 15), (3, 14), (2, 19))}
        for rps in (2.0, 20.0, 200.0):
            for at, share in enumerate((0.03, 0.1, 0.3)):
                ends = {mode: self.play(rps, Side(hangs=share), mode) for mode in RAMPS}
                limits = {mode: of[rps][at] for mode, of in ((GROWING, default), (STEPS, steps)) if rps in of}
                yield Row(
                    f"{share:.0%} hang until the client gives up after 600 s, {rps:g} rps",
                    ", ".join(
                        f"{RAMPS[mode]} {_slack(minutes):.1f} min or {_slack(hung):.0f} hung"
                        for mode, (minutes, hung) in limits.items()
                    ),
                    _off(ends[GROWING], "hung"),
                    all(_is_off(each, math.inf) for each in ends.values())
                    and all(
                        ends[mode].minutes(OFF) <= _slack(minutes) or ends[mode].failed <= _slack(hung)
                        for mode, (minutes, hung) in limits.items()
                    ),
                    fixed=_off(ends[STEPS], "hung"),
                    others=self._unseen(rps, share, "hung"),
                )

    def _excluded(self) -> Iterator[Row]:
        limits = {(2.0, 0.1): 7, (20.0, 0.1): 2, (2.0, 1.0): 2, (20.0, 1.0): 2}
        healthy = Side(excluded=0.0)
        for share in (0.1, 1.0):
            for rps in (2.0, 20.0, 200.0):
                ends = {mode: self.play(rps, Side(excluded=share), mode, stable=healthy) for mode in RAMPS}
                figure = limits.get((rps, share))
                # The figures are those of the better ramp: the default one sends few requests at first.
                best = min(ends.values(), key=lambda each: each.minutes(OFF))
                yield Row(
                    f"excluded answers (404) from 0 to {share:.0%}, {rps:g} rps",
                    "" if figure is None else f"one of both {_slack(figure):.1f} min",
                    _off(ends[GROWING], "excluded"),
                    all(_is_off(each, math.inf) for each in ends.values())
                    and _is_off(best, math.inf if figure is None else _slack(figure)),
                    fixed=_off(ends[STEPS], "excluded"),
                    others=self._unseen(rps, share, "excluded"),
                )

    def _lost(self) -> Iterator[Row]:
        limits = {0.3: 17, 0.5: 17, 0.9: 13, 1.0: 13}
        for share in (0.1, 0.3, 0.5, 0.9, 1.0):
            for rps in (2.0, 20.0):
                ends = {mode: self.play(rps, Side(lost=share), mode) for mode in RAMPS}
                promoted = max(each.share(PROMOTED) for each in ends.values())
                seen = self.play(rps, Side(lost=share), GROWING, made=ALL)
                late = _slack(limits[share]) if share in limits and rps == 20 else math.inf
                others = {}
                for rule in RULES:
                    played = self.measured.peer(rule, rps, (share + (1 - share) * BASE) / BASE)
                    after = f"off after {played.delay:g} min, " if played.delay else f"off {played.p:.0%}, "
                    others[rule] = f"{after}{played.requests * share:.0f} lost"
                yield Row(
                    f"{share:.0%} lost before the pod, {rps:g} rps",
                    "promoted 2.2 % + 3 SE" + (f", off {late:.0f} min" if math.isfinite(late) else ""),
                    f"{_off(ends[GROWING], 'lost')}; with the gateway's series {_off(seen, 'lost')}",
                    promoted <= 0.022 + 3 * math.sqrt(0.022 * 0.978 / len(seen.runs))
                    and (share == 0.1 or all(_is_off(each, late) for each in ends.values()))
                    and _is_off(seen, math.inf),
                    fixed=_off(ends[STEPS], "lost"),
                    others=others,
                )

    def _leaves(self) -> Iterator[Row]:
        cases = (
            ("30 % of the canary's clients leave (1 % of the stable's)", Side(leaves=0.3), HEALTHY),
            ("30 % of the stable's clients leave (1 % of the canary's)", HEALTHY, Side(leaves=0.3)),
        )
        for words, canary, stable in cases:
            ends, all_count = (
                {mode: self.play(20.0, canary, mode, stable=stable, lenient=lenient) for mode in RAMPS}
                for lenient in (True, False)
            )
            yield Row(
                f"{words}, equal otherwise, 20 rps (if they count for both sides alike)",
                "neither promoted nor off",
                f"{_both(ends[GROWING])} ({_both(all_count[GROWING])})",
                all(each.share(PROMOTED) <= 0.01 and _rare(each) for each in ends.values()),
                fixed=f"{_both(ends[STEPS])} ({_both(all_count[STEPS])})",
            )
        both = Side(leaves=0.1)
        ends, all_count = (
            {mode: self.play(20.0, both, mode, stable=both, lenient=lenient) for mode in RAMPS}
            for lenient in (True, False)
        )
        yield Row(
            "10 % of both sides' clients leave, equal otherwise, 20 rps (if they count for both sides alike)",
            "P(off) <= .01 + 3 SE",
            f"{_promoted(ends[GROWING])} ({_promoted(all_count[GROWING])})",
            all(map(_rare, ends.values())),
            fixed=f"{_promoted(ends[STEPS])} ({_promoted(all_count[STEPS])})",
        )

    def _identical(self) -> Iterator[Row]:
        limits = {
            (2.0, STEPS): (59, 161),
            (20.0, STEPS): (30, 40),
            (200.0, STEPS): (30, 30),
            (2.0, GROWING): (80, 136),
            (20.0, GROWING): (20, 27),
            (200.0, GROWING): (12, 20),
        }
        for rps in (0.5, 2.0, 20.0, 200.0):
            ends, alone = (
                {mode: self.play(rps, HEALTHY, mode, made=made, guards=guards, runs=IDENTICAL) for mode in RAMPS}
                for made, guards in ((ALL, True), ((whole.ERRORS,), False))
            )
            holds, words = True, []
            for mode, name in RAMPS.items():
                holds &= _rare(ends[mode])
                if (rps, mode) in limits:
                    median, most = (_slack(each) for each in limits[rps, mode])
                    holds &= ends[mode].minutes((PROMOTED,)) <= median and ends[mode].minutes((PROMOTED,), 0.9) <= most
                    words.append(f"{name} {median:.0f}/{most:.0f} min")
            yield Row(
                f"identical canary, all four comparisons (errors alone), {rps:g} rps",
                "; ".join(("off <= .01 + 3 SE", *words)),
                f"{_promoted(ends[GROWING])} ({_promoted(alone[GROWING])})",
                holds,
                fixed=f"{_promoted(ends[STEPS])} ({_promoted(alone[STEPS])})",
            )

    def _holds(self) -> Iterator[Row]:
        """What it costs and saves that the weight does not grow while a comparison speaks against the canary."""
        for rps in (2.0, 20.0):
            longer, holds = {}, True
            for mode in RAMPS:
                held, free = (
                    self.play(rps, HEALTHY, mode, made=ALL, grows_below=below, runs=IDENTICAL)
                    for below in (whole.GROWS_BELOW, math.inf)
                )
                longer[mode] = held.mean_minutes / free.mean_minutes - 1
                error = math.hypot(held.mean_error, free.mean_error) / free.mean_minutes
                holds &= longer[mode] <= 0.066 + 3 * error
            yield Row(
                f"identical canary, no more weight while log E > 0.5, {rps:g} rps",
                "6.6 % + 3 SE longer than without",
                f"{longer[GROWING]:+.1%}",
                holds,
                fixed=f"{longer[STEPS]:+.1%}",
            )
        bad = Side(fails=0.05)
        with_hold, without = (
            {mode: self.play(0.5, bad, mode, made=ALL, grows_below=below) for mode in RAMPS}
            for below in (whole.GROWS_BELOW, math.inf)
        )
        yield Row(
            "5 % fail, no more weight while log E > 0.5 (without this), 0.5 rps",
            "both 12 % fewer bad",
            f"{with_hold[GROWING].failed_mean:.1f} bad ({without[GROWING].failed_mean:.1f})",
            all(with_hold[mode].failed_mean <= 0.88 * without[mode].failed_mean for mode in RAMPS),
            fixed=f"{with_hold[STEPS].failed_mean:.1f} bad ({without[STEPS].failed_mean:.1f})",
        )

    def _unseen(self, rps: float, share: float, what: str) -> dict[str, str]:
        """What others do about answers that are no 5xx, or never come: nothing."""
        found = {}
        for rule in RULES:
            played = self.measured.peer(rule, rps, 1.0)
            found[rule] = f"off {played.p:.0%}, {played.requests * share:.0f} {what}"
        return found

    def first(self) -> Iterator[tuple[str, ...]]:
        """What a team gets, on the default ramp: traffic, minutes until a good canary is promoted, and bad answers."""
        for rps in (0.5, 2.0, 20.0, 200.0):
            good = []
            for fails in (0.001, BASE):
                side = Side(fails=fails)
                good.append(_promoted(self.play(rps, side, GROWING, stable=side, made=ALL, runs=IDENTICAL)))
            bad = [self.play(rps, Side(fails=fails), GROWING, made=ALL) for fails in (0.2, 0.9)]
            yield (f"{rps:g}", *good, *(_off(each, "bad") for each in bad))


def _slack(figure: float) -> float:
    return 1.1 * (figure + 0.5)


def _is_off(ends: Ends, minutes: float) -> bool:
    """Whether it was taken off (95 % of the trials), and half of them in time."""
    return ends.off >= 0.95 and ends.minutes(OFF) <= minutes


def _rare(ends: Ends) -> bool:
    p = max(ends.off, ALPHA)
    return ends.off <= ALPHA + 3 * math.sqrt(p * (1 - p) / len(ends.runs))


def _off(ends: Ends, what: str) -> str:
    promoted = ends.share(PROMOTED)
    also = f", promoted {promoted:.1%}" if promoted else ""
    if ends.off < 0.5:
        return f"held, {ends.failed:.0f} {what}{also}"
    return f"off after {ends.minutes(OFF):.3g} min, {ends.failed:.0f} {what}{also}"


def _both(ends: Ends) -> str:
    return f"promoted {ends.share(PROMOTED):.1%}, off {ends.off:.1%}"


def _promoted(ends: Ends) -> str:
    median, most = (ends.minutes((PROMOTED,), q) for q in (0.5, 0.9))
    if not math.isfinite(median):
        return f"promoted {ends.share(PROMOTED):.0%}"
    return f"{median:.0f}/{f'{most:.0f}' if math.isfinite(most) else 'later'} min, off {ends.off:.1%}"
