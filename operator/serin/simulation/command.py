"""The command `serin simulate`: reads the arguments, runs the simulation and prints the result.

Called by `serin.__main__`. Not here: the simulation (`runs`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable

from serin.simulation.runs import FIXED_STEPS, STEP_SECONDS, Scenario, Summary, run_all, summarise

RAMPS = ("adaptive", "fixed")
MOST_RUNS = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serin simulate`; an invalid value ends with a message and exit status 2."""
    default = Scenario()
    steps = ", ".join(f"{100 * step:g}" for step in FIXED_STEPS)
    number = parser.add_argument
    number(
        "--rps", type=_number(1e-3, 1e5), default=default.rps, help="requests per second of canary and stable together"
    )
    number("--base-rate", type=_number(0, 1), default=default.base_rate, help="bad rate of the stable, 0 to 1")
    number(
        "--ratio",
        type=_number(0, 1e6),
        default=default.ratio,
        help="bad rate of the canary divided by that of the stable",
    )
    number("--runs", type=_whole(1, MOST_RUNS), default=2000, help="number of trials to simulate")
    number(
        "--ramp",
        type=_ramp,
        default=default.ramp,
        help=f"adaptive (the default of a rollout), or fixed ({steps} percent, {STEP_SECONDS:.0f} s per step)",
    )
    number("--minutes", type=_number(1, 1e4), default=default.minutes, help="duration of each trial in minutes")
    number(
        "--margin",
        type=_number(1, 1e3),
        default=default.margin,
        help="ratio of bad rates that still counts as no worse",
    )
    number(
        "--alpha",
        type=_number(1e-12, 0.5),
        default=default.alpha,
        help="upper limit on the probability of a wrong rollback",
    )
    number(
        "--answer-seconds",
        type=_number(0, 3600),
        default=0.0,
        help="90 percent quantile of the duration of answers, in seconds",
    )
    number(
        "--seed",
        type=_whole(0, 2**63),
        default=0,
        help="seed of the random numbers; the same seed gives the same result",
    )
    number("--jobs", type=_whole(1, 1024), default=None, help="number of processes; default: one per core")
    number("--json", action="store_true", help="print the result as one JSON object")


def simulate(arguments: argparse.Namespace) -> int:
    """Run the simulation and print the result; returns the exit status."""
    a = arguments
    scenario = Scenario(
        a.rps, a.base_rate, a.ratio, a.ramp, a.minutes, a.alpha, a.margin, answer_seconds=a.answer_seconds
    )
    if scenario.canary_rate > 1:
        sys.stderr.write(
            "serin simulate: the canary's bad rate, --base-rate times --ratio, is above 1; give a smaller --ratio.\n"
        )
        return 2
    summary = summarise(scenario, run_all(scenario, a.runs, a.seed, a.jobs))
    if a.json:
        settings = {"seed": a.seed, **dataclasses.asdict(scenario)}
        sys.stdout.write(json.dumps({**dataclasses.asdict(summary), "settings": settings}) + "\n")
    else:
        sys.stdout.write(_text(scenario, summary))
    return 0


def _text(scenario: Scenario, summary: Summary) -> str:
    s, bound = summary, "none: the canary is within the margin, so every rollback is wrong"
    if s.wald_bound is not None and s.ratio_to_bound is not None:
        bound = f"{s.wald_bound:.1f} excess bad answers for any test (Wald); this is {s.ratio_to_bound:.2f} times that"
    delay = (
        "no trial was rolled back"
        if s.median_delay_s is None
        else f"{s.median_delay_s:.0f} s from the first canary request to the rollback"
    )
    promotion = (
        "no trial was proven no worse"
        if s.median_promotion_s is None
        else f"{s.p_promoted:.2%} of the trials, median {s.median_promotion_s / 60:.0f} min"
    )
    return (
        f"{s.runs} trial{'' if s.runs == 1 else 's'} of {scenario.minutes:g} min at {scenario.rps:g} requests/s, "
        f"{scenario.ramp} ramp\n"
        f"  bad rate      stable {scenario.base_rate:.2%}, canary {scenario.canary_rate:.2%}\n"
        f"  rolled back   {s.p_rollback:.2%} of the trials (standard error {s.p_rollback_se:.2%})\n"
        f"  median delay  {delay}\n"
        f"  promotion due {promotion}\n"
        f"  excess bad    {s.mean_excess_bad:.1f} answers per trial (standard error {s.mean_excess_bad_se:.1f})\n"
        f"  lower bound   {bound}\n"
        f"  canary served {s.mean_canary_requests:.0f} requests per trial\n"
    )


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}.")
        return value

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}.")
        return value

    return read


def _ramp(text: str) -> str:
    if text not in RAMPS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a ramp; give adaptive or fixed.")
    return text
