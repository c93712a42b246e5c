"""Draws the pictures of README.md and verdict.md and prints the tables of verdict.md, in about two minutes.

Run it as `python -m docs.concepts.pictures`. Everything comes from `serin.evidence`, the operator's own test, proof and
ramp, fed with simulated traffic of a fixed seed: the same bytes on every run. The pictures show single rollouts;
`bench/decision` measures average costs.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251 - simulated traffic; nothing is decided here

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from serin.evidence.conditional import ConditionalTest, Parameters
from serin.evidence.log_space import log_choose
from serin.evidence.non_inferiority import NonInferiority, default_tolerance
from serin.evidence.ramp import AdaptiveRamp
from serin.evidence.slices import Slice
from serin.simulation.poisson import poisson

FOLDER = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#999999"
SLICE_SECONDS = 15.0
BASE = 0.01
"""The stable's bad answers, of all."""
ALPHA, MARGIN = 0.01, 1.1
"""The defaults of ErrorRate."""
STEPS, HOLD_SECONDS = (0.05, 0.25, 0.5), 600
"""A ramp with fixed steps."""


# Rollouts ------------------------------------------------------------------------------------------------------------


@dataclass
class Rollout:
    """One simulated rollout, slice by slice."""

    minutes: list[float] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)
    """Percent of what a rollback needs."""
    weight: list[float] = field(default_factory=list)
    """Percent of the requests."""
    excess: list[float] = field(default_factory=list)
    """Bad answers so far that the stable would not have given: expected, given the canary's requests."""

    def add(self, number: int, test: ConditionalTest, weight: float, excess: float) -> None:
        """What is so at the end of a slice."""
        self.minutes.append(number * SLICE_SECONDS / 60)
        self.evidence.append(100 * test.evidence)
        self.weight.append(100 * weight)
        self.excess.append(excess)


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - no secret: the same seed has to give the same picture


def slices(random: Random, rps: float, weight: float, ratio: float) -> tuple[int, int, int, int]:
    """What one slice shows of a canary that is `ratio` times worse."""
    arrivals = rps * SLICE_SECONDS
    x1 = poisson(random, arrivals * weight * BASE * ratio)
    n1 = x1 + poisson(random, arrivals * weight * (1 - BASE * ratio))
    x0 = poisson(random, arrivals * (1 - weight) * BASE)
    n0 = x0 + poisson(random, arrivals * (1 - weight) * (1 - BASE))
    return n1, x1, n0, x0


def rollout(seed: str, rps: float, ratio: float, minutes: float) -> Rollout:
    """An adaptive ramp to the end, or to the rollback."""
    random, shown = _random(seed), Rollout()
    test = ConditionalTest(Parameters(alpha=ALPHA, margin=MARGIN))
    ramp = AdaptiveRamp(rps, SLICE_SECONDS)
    weight, epoch, excess = ramp.first(), 0, 0.0
    shown.add(0, test, weight, excess)
    for number in range(1, round(minutes * 60 / SLICE_SECONDS) + 1):
        n1, x1, n0, x0 = slices(random, rps, weight, ratio)
        test = test.add(Slice(n1, x1, n0, x0, number * SLICE_SECONDS, epoch))
        excess += n1 * BASE * (ratio - 1)
        shown.add(number, test, weight, excess)
        if test.rolled_back:
            break
        after = ramp.next(weight, test.closed)
        epoch, weight = epoch + (after != weight), after
    return shown


def stepped(seed: str, ratio: float) -> tuple[list[float], list[float], bool]:
    """Minutes, weights in percent and whether it was promoted, of one canary on the default steps at 20 requests/s."""
    random = _random(seed)
    test, proof = ConditionalTest(Parameters(alpha=ALPHA, margin=MARGIN)), NonInferiority()
    minutes, weights = [-2.0, 0.0], [0.0, 0.0]
    for number in range(round(45 * 60 / SLICE_SECONDS)):
        step = int(number * SLICE_SECONDS // HOLD_SECONDS)
        if step >= len(STEPS) and proof.proven:
            return [*minutes, minutes[-1], 45.0], [*weights, 100.0, 100.0], True
        weight = STEPS[min(step, len(STEPS) - 1)]
        counts = slices(random, 20, weight, ratio)
        test = test.add(Slice(*counts, (number + 1) * SLICE_SECONDS, step))
        proof = proof.add(Slice(*counts))
        minutes += [number * SLICE_SECONDS / 60, (number + 1) * SLICE_SECONDS / 60]
        weights += [100 * weight] * 2
        if test.rolled_back:
            return [*minutes, minutes[-1], 45.0], [*weights, 0.0, 0.0], False
    raise LookupError(f"{seed} has no verdict after 45 minutes; choose another seed.")


# The pictures --------------------------------------------------------------------------------------------------------


def rollout_steps() -> Figure:
    """The weight of a good canary, which is promoted, and of a bad one, which is rolled back."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    for seed, ratio, colour, words in (
        ("good", 1.0, GREEN, "as good as the stable"),
        ("bad", 5.0, ORANGE, "5 times worse"),
    ):
        minutes, weights, promoted = stepped(f"steps {seed}", ratio)
        if promoted == (ratio > 1):
            raise LookupError(f"The {seed} canary ended the other way; choose another seed.")
        axes.plot(minutes, weights, color=colour, label=words)
        at = minutes[-2]
        if promoted:
            axes.text(at + 0.5, 94, "proven no worse: promoted", color=colour, va="top")
        else:
            axes.text(11, 2, f"rolled back after {60 * at:.0f} seconds", color=colour, va="bottom")
    axes.set(xlabel="minutes since the canary's first request", ylabel="canary's share of requests, %")
    axes.set(xlim=(-2, 45), ylim=(-2, 104))
    _legend(figure, axes)
    return figure


def evidence() -> Figure:
    """Evidence over time: identical canaries and worse ones."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for number in range(20):
        good = rollout(f"good {number}", 20, 1.0, 30)
        label = None if number else "no worse, 20 rollouts"
        axes.plot(good.minutes, good.evidence, color=GREY, linewidth=0.7, label=label)
    for ratio, colour in ((2.0, BLUE), (5.0, ORANGE)):
        bad = rollout(f"bad {ratio:g}", 20, ratio, 30)
        axes.plot(bad.minutes, bad.evidence, color=colour, label=f"{ratio:g} times worse")
        axes.plot(bad.minutes[-1:], bad.evidence[-1:], "o", color=colour)
    axes.axhline(100, color="black", linestyle=":", linewidth=1)
    axes.text(30, 98, "rolled back", ha="right", va="top")
    axes.set(xlabel="minutes since the canary's first request", ylabel="evidence, %", ylim=(0, 106), xlim=(0, 30))
    _legend(figure, axes)
    return figure


def looking() -> Figure:
    """How many identical canaries have been rolled back when one looks every 15 seconds."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    runs, looks = 300, 160
    by_test, by_p_value = [0] * looks, [0] * looks
    for run in range(runs):
        fired = list(_looked_at(_random(f"looking {run}"), looks))
        for look in range(looks):
            by_test[look] += fired[look][0]
            by_p_value[look] += fired[look][1]
    minutes = [(look + 1) * SLICE_SECONDS / 60 for look in range(looks)]
    label = "Fisher's test at 1 %, on all counts so far"
    axes.plot(minutes, [100 * n / runs for n in by_p_value], color=ORANGE, label=label)
    axes.plot(minutes, [100 * n / runs for n in by_test], color=BLUE, label="Serin")
    axes.axhline(100 * ALPHA, color="black", linestyle=":", linewidth=1, label="promised: 1 %")
    axes.set(xlabel="minutes, one look every 15 seconds", ylabel="identical canaries rolled back, %", xlim=(0, 40))
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def _looked_at(random: Random, looks: int) -> Iterator[tuple[bool, bool]]:
    """After each look, whether Serin's test and a repeated p-value have rolled an identical canary back by then."""
    test, fired = ConditionalTest(Parameters(alpha=ALPHA)), False
    sums = (0, 0, 0, 0)
    for number in range(1, looks + 1):
        counts = slices(random, 20, 0.25, 1.0)
        test = test.add(Slice(*counts, number * SLICE_SECONDS))
        n1, x1, n0, x0 = sums = tuple(map(sum, zip(sums, counts, strict=True)))  # type: ignore[assignment]
        fired = fired or fisher(n1, x1, n0, x0) < ALPHA
        yield test.rolled_back, fired


def fisher(n1: int, x1: int, n0: int, x0: int) -> float:
    """One-sided p-value of Fisher's exact test that the canary is worse."""
    bad = x1 + x0
    total = log_choose(n1 + n0, bad)
    return math.fsum(math.exp(log_choose(n1, j) + log_choose(n0, bad - j) - total) for j in range(x1, min(n1, bad) + 1))


def epochs() -> Figure:
    """What an identical canary looks like after a change of weight, counted with and without epochs."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    before, after, fast, slow = 0.05, 0.25, 0.3, 30.0

    def share(arrived: float, *, canary: bool) -> float:
        weight = after if arrived >= 0 else before
        return weight if canary else 1 - weight

    def bad_rate(at: float, *, canary: bool) -> float:
        bad, good = BASE * share(at - fast, canary=canary), (1 - BASE) * share(at - slow, canary=canary)
        return 100 * bad / (bad + good)

    seconds = [second / 4 for second in range(-40, 201)]
    axes.plot(seconds, [bad_rate(s, canary=True) for s in seconds], color=ORANGE, label="canary, by time of the answer")
    axes.plot(seconds, [bad_rate(s, canary=False) for s in seconds], color=GREY, label="stable, by time of the answer")
    axes.axhline(100 * BASE, color=BLUE, label="both, by epoch of the request")
    axes.axvline(0, color="black", linestyle=":", linewidth=1)
    axes.text(0.5, 5.3, "weight 5 % to 25 %", va="top")
    axes.set(xlabel="seconds since the change of weight", ylabel="bad answers, %", xlim=(-10, 50), ylim=(0, 5.5))
    _legend(figure, axes, columns=2)
    return figure


def ramp() -> Figure:
    """What the adaptive ramp gives, and what it costs."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = ((1.0, GREEN, "no worse"), (2.0, BLUE, "2 times worse"), (20.0, ORANGE, "20 times worse"))
    for ratio, colour, words in kinds:
        for number in range(8):
            shown = rollout(f"ramp {ratio:g} {number}", 200, ratio, 12)
            for axes, values in ((left, shown.weight), (right, shown.excess)):
                label = None if number else words
                axes.step(shown.minutes, values, where="pre", color=colour, linewidth=0.8, label=label)
                if ratio > 1:
                    axes.plot(shown.minutes[-1:], values[-1:], "o", color=colour, markersize=3)
    left.set(xlabel="minutes", ylabel="weight, %", xlim=(0, 12), ylim=(0, 26))
    right.set(xlabel="minutes", ylabel="bad answers more than of the stable", xlim=(0, 12))
    _legend(figure, left)
    return figure


def _legend(figure: Figure, axes: Axes, columns: int = 3) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


# The tables ----------------------------------------------------------------------------------------------------------

RATES = (0.001, 0.005, 0.01, 0.02, 0.05)
TOLERANCES = ((1.5, 0.002), (1.5, 0.005), (1.5, 0.01), (1.5, 0.05), (1.25, 0.005), (2.0, 0.0))
WEIGHTS = (0.05, 0.25, 0.5)


def needed(rate: float, rho: float, delta: float, weight: float, runs: int = 301) -> float:
    """The median of the canary requests after which an identical canary is proven to be within the tolerance."""
    guess = NonInferiority(rho, delta).still_needed(_expected(rate, weight)) or math.inf
    step = max(1.0, guess / 50)

    def one(random: Random) -> int:
        proof, n1 = NonInferiority(rho, delta), 0
        while not proof.proven:
            x1, x0 = poisson(random, step * rate), poisson(random, step * (1 - weight) / weight * rate)
            good1 = poisson(random, step * (1 - rate))
            good0 = poisson(random, step * (1 - weight) / weight * (1 - rate))
            n1 += x1 + good1
            proof = proof.add(Slice(x1 + good1, x1, x0 + good0, x0))
        return n1

    return statistics.median(one(_random(f"needed {rate} {rho} {delta} {weight} {run}")) for run in range(runs))


def _expected(rate: float, weight: float) -> Slice:
    n1, n0 = round(1e6 * weight), round(1e6 * (1 - weight))
    return Slice(n1, round(n1 * rate), n0, round(n0 * rate))


def tables() -> Iterator[str]:
    """The tables of verdict.md, in Markdown."""
    head = [f"{rho:g} times + {100 * delta:g} %" for rho, delta in TOLERANCES]
    yield _row("bad answers of both", *head)
    yield _row(*["---"] * (1 + len(head)))
    for rate in RATES:
        yield _row(f"{100 * rate:g} %", *(_rounded(needed(rate, rho, delta, 0.25)) for rho, delta in TOLERANCES))
    yield ""
    yield _row("weight", *(f"{100 * weight:g} %" for weight in WEIGHTS))
    yield _row(*["---"] * (1 + len(WEIGHTS)))
    for rps in (0.1, 0.5, 2, 20, 200):
        at = [needed(BASE, *default_tolerance(rps), weight) for weight in WEIGHTS]
        times = [_time(n / (rps * weight)) for n, weight in zip(at, WEIGHTS, strict=True)]
        yield _row(f"at {rps:g} requests/s", *times)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rounded(n: float) -> str:
    """Two digits are all that a median of this many runs knows."""
    digits = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return f"{round(n / digits) * digits:,}"


def _time(seconds: float) -> str:
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} days"


PICTURES = {"rollout": rollout_steps, "evidence": evidence, "looking": looking, "epochs": epochs, "ramp": ramp}


def main(arguments: Sequence[str]) -> None:
    """Draw what is named, or everything; `tables` prints the tables."""
    mpl.rcParams.update({"svg.hashsalt": "serin", "svg.fonttype": "none", "font.size": 9})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    for name in arguments or [*PICTURES, "tables"]:
        if name == "tables":
            sys.stdout.write("\n".join(tables()) + "\n")
        else:
            PICTURES[name]().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
