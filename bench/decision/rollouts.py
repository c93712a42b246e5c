"""Rollouts of Serin on simulated traffic, one kernel per kind of traffic; called by `rows`.

A kernel plays a block of runs. `arrivals[run, slice]` are the requests of both sides, drawn beforehand, the same for
every rule that is compared; the weight splits them at random, and each answer is bad with its side's probability.
What comes back is one line per run: `ROLLED` the slice after which the rollback was decided (-1: never), `REQUESTS`
of the canary until it took effect, `BAD` their expected excess of bad answers (given the requests: the same mean as
counting them, less noise), `AT_MAX` the first slice at w_max (-1: never), `CHANGES` of the weight.
"""

from __future__ import annotations

import math

import numpy as np

from bench.decision.kernel import (
    Floats,
    Ints,
    add,
    compiled,
    first_weight,
    new_open,
    new_test,
    next_weight,
    proof,
    prove,
)

DT = 15.0
"""Seconds per slice."""
STEPS = np.array([0.05, 0.10, 0.25, 0.50])
STEP_SLICES = 40
"""The fixed ramp: four steps of ten minutes."""
ADAPTIVE, FIXED, CONSTANT = 0, 1, 2
ROLLED, REQUESTS, BAD, AT_MAX, CHANGES = 0, 1, 2, 3, 4
HANG_SLICES = 4
"""A request that hangs, or a failure that is a time-out, ends after 60 seconds."""
GOOD_SLICES = 2
"""Good answers take 30 seconds where bad ones take 0.3."""
LATE_BAD = 0.3 / DT
"""The share of those bad answers that ends in the next slice."""


@compiled
def fixed_weight(i: int) -> float:
    """The fixed ramp's weight in slice `i`."""
    return float(STEPS[min(i // STEP_SLICES, 3)])


@compiled
def ratio(
    gen: np.random.Generator,
    arrivals: Ints,
    rps: float,
    rates: Floats,
    factor: float,
    onset: int,
    mode: int,
    constant: float,
    lag: float,
    hysteresis: Floats,
    par: Floats,
) -> Floats:
    """Errors: `rates[slice]` bad answers of the stable, `factor` times that of the canary from slice `onset` on.

    `lag` seconds (0, or 15 to 30) from a decision to its effect: a rollback, or another weight. A run that was rolled
    back before the onset is charged nothing.
    """
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    weights, epochs = np.zeros(slices + 4), np.zeros(slices + 4, dtype=np.int64)
    for run in range(runs):
        test, strata, closed = new_test(), new_open(), np.zeros(4, dtype=np.int64)
        out[run, ROLLED] = out[run, AT_MAX] = -1
        weight = first_weight(rps, DT) if mode == ADAPTIVE else fixed_weight(0) if mode == FIXED else constant
        epoch = 0
        weights[:4], epochs[:4] = weight, 0  # what holds from slice i on is at i + 4 - delay
        late = (lag - DT) / DT  # of a slice, until the decision before last takes effect
        for i in range(slices):
            p0 = rates[i]
            p1 = min(1.0, p0 * factor) if i >= onset else p0
            # Parts of the slice, each with its weight and epoch.
            parts = 1 if lag == 0 or weights[i + 1] == weights[i + 2] else 2
            moved = False
            rest = arrivals[run, i]
            for part in range(parts):
                at = i + 3 if lag == 0 else i + 1 + part if parts == 2 else i + 2
                n = gen.binomial(rest, late) if parts == 2 and part == 0 else rest
                rest -= n
                n1 = gen.binomial(n, weights[at])
                x1, x0 = gen.binomial(n1, p1), gen.binomial(n - n1, p0)
                out[run, REQUESTS] += n1
                out[run, BAD] += n1 * (p1 - p0)
                if add(test, par, strata, closed, n1, x1, n - n1, x0, DT * (i + 1), epochs[at]):
                    moved = True
            if test[8] > 0:
                out[run, ROLLED] = i
                if lag > 0 and i >= onset:  # the canary goes on until the rollback takes effect
                    served = rps * (DT * late * weights[i + 2] + (lag - DT * late) * weights[i + 3])
                    out[run, REQUESTS] += served
                    out[run, BAD] += served * (p1 - p0)
                break
            before = weight
            if mode == FIXED:
                weight = fixed_weight(i + 1)
            elif mode == ADAPTIVE and moved:
                weight = next_weight(weight, closed, rps, DT, hysteresis[0], hysteresis[1])
            if weight != before:
                epoch += 1
                out[run, CHANGES] += 1
            if out[run, AT_MAX] < 0 and weight >= 0.25:
                out[run, AT_MAX] = i + 1
            weights[i + 4], epochs[i + 4] = weight, epoch
    return out


@compiled
def durations(
    gen: np.random.Generator,
    arrivals: Ints,
    rps: float,
    rate: float,
    mode: int,
    stamped: bool,
    hysteresis: Floats,
    par: Floats,
) -> Floats:
    """An identical canary, bad answers after 0.3 s and good ones after 30 s, counted when they end.

    `stamped`: by the epoch of their arrival; without it everything is one epoch.
    """
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    for run in range(runs):
        test, strata, closed = new_test(), new_open(), np.zeros(4, dtype=np.int64)
        out[run, ROLLED] = out[run, AT_MAX] = -1
        weight = first_weight(rps, DT) if mode == ADAPTIVE else fixed_weight(0)
        epoch = 0
        epochs = np.zeros(slices, dtype=np.int64)
        # Per slice of arrival and slice of the end, at most GOOD_SLICES later: n1, x1, n0, x0.
        ends = np.zeros((slices, GOOD_SLICES + 1, 4), dtype=np.int64)
        for i in range(slices):
            epochs[i] = epoch if stamped else 0
            sides = np.zeros(2, dtype=np.int64)
            sides[0] = gen.binomial(arrivals[run, i], weight)
            sides[1] = arrivals[run, i] - sides[0]
            for side in range(2):
                bad = gen.binomial(sides[side], rate)
                late = gen.binomial(bad, LATE_BAD)
                ends[i, 0, 2 * side] = ends[i, 0, 2 * side + 1] = bad - late
                ends[i, 1, 2 * side] = ends[i, 1, 2 * side + 1] = late
                ends[i, GOOD_SLICES, 2 * side] = sides[side] - bad
            out[run, REQUESTS] += sides[0]
            if add_ended(test, par, strata, closed, ends, epochs, i):
                before = weight
                if mode == ADAPTIVE:
                    weight = next_weight(weight, closed, rps, DT, hysteresis[0], hysteresis[1])
                epoch += weight != before
            if test[8] > 0:
                out[run, ROLLED] = i
                break
            if mode == FIXED and fixed_weight(i + 1) != weight:
                weight = fixed_weight(i + 1)
                epoch += 1
        out[run, CHANGES] = epoch
    return out


@compiled
def add_ended(test: Floats, par: Floats, strata: Ints, closed: Ints, ends: Ints, epochs: Ints, i: int) -> bool:
    """Feed what ended in slice `i`, one slice of evidence per epoch of arrival; whether a stratum closed."""
    longest, moved = ends.shape[1] - 1, False
    total = np.zeros(4, dtype=np.int64)
    for arrived in range(max(0, i - longest), i + 1):
        total += ends[arrived, i - arrived]
        if arrived == i or epochs[arrived + 1] != epochs[arrived]:
            if add(test, par, strata, closed, total[0], total[1], total[2], total[3], DT * (i + 1), epochs[arrived]):
                moved = True
            total[:] = 0
    return moved


@compiled
def prove_ended(
    logs: Floats, pools: Ints, ends: Ints, epochs: Ints, began: Ints, settle: float, least: float, i: int
) -> None:
    """Prove with what ended in slice `i`, epoch by epoch: nothing did of those before."""
    longest = ends.shape[1] - 1
    totals = np.zeros((epochs[i] + 1, 4), dtype=np.int64)
    for arrived in range(max(0, i - longest), i + 1):
        if (i + 1 - began[epochs[arrived]]) * DT >= settle:
            totals[epochs[arrived]] += ends[arrived, i - arrived]
    for epoch in range(epochs[i] + 1):
        total = totals[epoch]
        prove(logs, pools[epoch], total[0], total[1], total[2], total[3], least)


@compiled
def time_outs(
    gen: np.random.Generator,
    arrivals: Ints,
    rps: float,
    rates: Floats,
    stable_slices: int,
    mode: int,
    settle: float,
    bake: int,
    hysteresis: Floats,
    par: Floats,
) -> Floats:
    """Good answers take 15 s, the canary's bad ones 60 s, the stable's `stable_slices`; `rates`: canary, stable.

    `ROLLED` is here the first slice from `bake` on at whose end a promotion would have been proven (-1: never).
    No rollback comes before it: this is what the proof does alone. `settle` seconds after an epoch began its slices
    begin to count.
    """
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    for run in range(runs):
        test, strata, closed = new_test(), new_open(), np.zeros(4, dtype=np.int64)
        logs = np.full(8, -math.log(8.0))
        out[run, ROLLED] = out[run, AT_MAX] = -1
        weight = first_weight(rps, DT) if mode == ADAPTIVE else fixed_weight(0)
        epoch = 0
        epochs, began = np.zeros(slices, dtype=np.int64), np.zeros(slices + 1, dtype=np.int64)
        pools = np.zeros((slices, 4), dtype=np.int64)
        ends = np.zeros((slices, HANG_SLICES + 1, 4), dtype=np.int64)
        for i in range(slices):
            epochs[i] = epoch
            n1 = gen.binomial(arrivals[run, i], weight)
            n0 = arrivals[run, i] - n1
            x1, x0 = gen.binomial(n1, rates[0]), gen.binomial(n0, rates[1])
            ends[i, 1, 0], ends[i, 1, 2] = n1 - x1, n0 - x0
            ends[i, HANG_SLICES, 0], ends[i, HANG_SLICES, 1] = x1, x1
            ends[i, stable_slices, 2] += x0
            ends[i, stable_slices, 3] += x0
            out[run, REQUESTS] += n1
            moved = add_ended(test, par, strata, closed, ends, epochs, i)
            prove_ended(logs, pools, ends, epochs, began, settle, par[3], i)
            if i + 1 >= bake and proof(logs, pools, par[3]) >= math.log(20.0):
                out[run, ROLLED] = i
                break
            before = weight
            if mode == FIXED:
                weight = fixed_weight(i + 1)
            elif moved:
                weight = next_weight(weight, closed, rps, DT, hysteresis[0], hysteresis[1])
            if weight != before:
                epoch += 1
                began[epoch] = i + 1
        out[run, CHANGES] = epoch
    return out


@compiled
def histogram(
    gen: np.random.Generator,
    arrivals: Ints,
    rps: float,
    above: Floats,
    hang: float,
    hang_slices: int,
    error_rate: float,
    mode: int,
    hold: int,
    hysteresis: Floats,
    par: Floats,
) -> Floats:
    """Times to first token: `above[side, boundary]` exceed a boundary, `hang` of the canary's never come.

    What hangs is counted `hang_slices` (0 to 4) later, above every boundary. One test per boundary with its share of
    alpha (`par`); an identical error rate on both sides drives the adaptive ramp, which holds each weight for `hold`
    slices.
    """
    runs, slices = arrivals.shape
    bounds = above.shape[1]
    out = np.zeros((runs, 5))
    for run in range(runs):
        tests = np.zeros((bounds, 9))
        strata, closed = np.zeros((bounds, 32, 5), dtype=np.int64), np.zeros((bounds, 4), dtype=np.int64)
        for b in range(bounds):
            tests[b], strata[b] = new_test(), new_open()
        errors = np.zeros(4, dtype=np.int64)
        out[run, ROLLED] = out[run, AT_MAX] = -1
        weight, epoch, began = first_weight(rps, DT) if mode == ADAPTIVE else fixed_weight(0), 0, 0
        epochs = np.zeros(slices, dtype=np.int64)
        ends = np.zeros((bounds, slices, HANG_SLICES + 1, 4), dtype=np.int64)
        for i in range(slices):
            epochs[i] = epoch
            n1 = gen.binomial(arrivals[run, i], weight)
            n0 = arrivals[run, i] - n1
            hung = gen.binomial(n1, hang)
            x1, x0 = n1 - hung, n0
            share1, share0 = 1.0, 1.0
            for b in range(bounds):  # who exceeds a boundary exceeds those below it
                x1, x0 = gen.binomial(x1, above[0, b] / share1), gen.binomial(x0, above[1, b] / share0)
                share1, share0 = above[0, b], above[1, b]
                now = ends[b, i]
                now[0, 0], now[0, 1], now[0, 2], now[0, 3] = n1 - hung, x1, n0, x0
                now[hang_slices, 0] += hung
                now[hang_slices, 1] += hung
            out[run, REQUESTS] += n1
            for b in range(bounds):
                add_ended(tests[b], par, strata[b], closed[b], ends[b], epochs, i)
                if tests[b, 8] > 0:
                    out[run, ROLLED] = i
            if out[run, ROLLED] >= 0:
                break
            errors[0] += n1
            errors[1] += gen.binomial(n1, error_rate)
            errors[2] += n0
            errors[3] += gen.binomial(n0, error_rate)
            before = weight
            if mode == FIXED:
                weight = fixed_weight(i + 1)
            elif i + 1 - began >= hold:
                weight = next_weight(weight, errors, rps, DT, hysteresis[0], hysteresis[1])
            if weight != before:
                epoch, began = epoch + 1, i + 1
        out[run, CHANGES] = epoch
    return out
