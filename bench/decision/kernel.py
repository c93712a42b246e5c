"""The arithmetic of `serin.evidence` once more, compiled: the benchmark plays hundreds of thousands of rollouts.

Written from docs/reference/decision-engine.md (the pools of the proof: from ADR 14) and not from the operator's code,
and compared with that code in each run (`agreement`).
One difference in form: the boost's condition sum exp(lp + min(V + b, top) - prev) is a sum of smaller ones of two
numbers, exp(lp + V - prev) e^b and exp(lp + top - prev), so that its exponentials are taken once and not per halving;
and exp(lp + V - prev) is a mixture of the laws under the alternatives, none of which can overflow.

A test is an array of nine numbers: five active logs, the frozen log, the boost, the releases, rolled back (0 or 1).
Parameters are an array of four: ln(1/alpha), the cap times that, ln margin, the smallest stratum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

LOG_PSI = np.log(np.array([1.5, 2.5, 5.0, 12.0, 40.0]))
LOG_PRIOR = np.log(np.array([0.40, 0.25, 0.15, 0.10, 0.10]))
SHARES = np.array([0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92])
RHO, DELTA = 1.25, 0.005
"""The tolerance of the proof: times the stable's rate, plus this rate."""
RELEASE_SECONDS = 600.0
RING = 32
BUDGET, W_MIN, W_MAX = 2.0, 0.002, 0.25
"""Of the adaptive ramp: expected excess bad answers per slice, and the weights between which it moves."""
Z = 1.2816


def compiled(function: F) -> F:
    """Compile, and let other threads run meanwhile. No cache: Numba's does not notice a change in what is called."""
    return cast("F", numba.njit(nogil=True)(function))


def summing(function: F) -> F:
    """As `compiled`, and sums may be taken in any order: several terms at a time."""
    return cast("F", numba.njit(nogil=True, fastmath={"reassoc", "nsz", "nnan"})(function))


def parameters(alpha: float, margin: float, cap: float | None, min_stratum: int = 3) -> Floats:
    """What a test is pinned to, as the kernels take it."""
    goal = -math.log(alpha)
    return np.array([goal, math.inf if cap is None else cap * goal, math.log(margin), min_stratum])


@compiled
def new_test() -> Floats:
    """A test that has seen nothing."""
    test = np.zeros(9)
    test[:5] = math.log(0.55) + LOG_PRIOR
    test[5] = math.log(0.45)
    return test


@compiled
def new_open(size: int = RING) -> Ints:
    """No open stratum: per value of the epoch label its epoch, n1, x1, n0, x0; epoch -1 for none."""
    strata = np.zeros((size, 5), dtype=np.int64)
    strata[:, 0] = -1
    return strata


@compiled
def log_sum(logs: Floats) -> float:
    """ln of the sum of exponentials."""
    top = logs.max()
    return float(top + math.log(np.exp(logs - top).sum()))


@compiled
def log_e(test: Floats) -> float:
    """ln of the e-value."""
    return float(test[6] + log_sum(test[:6]))


@compiled
def close(test: Floats, par: Floats, n1: int, x1: int, n0: int, x0: int) -> None:
    """Test one stratum."""
    bad = x1 + x0
    if test[8] > 0 or n1 == 0 or n0 == 0 or bad == 0 or bad == n1 + n0:
        return
    goal, cap = par[0], par[1]
    before = log_e(test)
    low, high = max(0, bad - n0), min(n1, bad)
    if high - low >= 2000:
        rho = math.exp(par[2])
        for k in range(5):
            worse = n1 * rho * math.exp(LOG_PSI[k])
            th0, th1 = n1 * rho / (n1 * rho + n0), worse / (worse + n0)
            test[k] += x1 * math.log(th1 / th0) + x0 * math.log((1 - th1) / (1 - th0))
    else:
        size = high - low + 1
        law = np.zeros(size)
        for i in range(1, size):  # each from the one before: a quotient instead of binomial coefficients
            j = low + i
            law[i] = law[i - 1] + math.log((n1 - j + 1.0) * (bad - j + 1.0) / (j * (n0 - bad + j * 1.0))) + par[2]
        law -= log_sum(law)
        # Row k: the law under alternative k, which is the law under H0 tilted by psi_k; the last row: H0.
        tilted, norms = np.empty((6, size)), np.empty(5)
        for k in range(5):
            tilted[k] = law + np.arange(low, high + 1) * LOG_PSI[k]
            norms[k] = log_sum(tilted[k])
            tilted[k] = np.exp(tilted[k] - norms[k])
        tilted[5] = np.exp(law)
        if before < goal:
            test[6] += boost(test, before, tilted, goal, min(goal, before + cap))
        for k in range(5):
            test[k] += x1 * LOG_PSI[k] - norms[k]
    over = log_e(test) - before - cap
    if over > 0:
        test[6] -= over
    if log_e(test) >= goal - 1e-9:
        test[8] = 1.0


@summing
def boost(test: Floats, before: float, tilted: Floats, goal: float, top: float) -> float:
    """The largest constant that keeps the step fair."""
    size = tilted.shape[1]
    free, capped = np.zeros(size), tilted[5] * math.exp(top - before)
    for k in range(6):
        free += tilted[k] * math.exp(test[6] + test[k] - before)
    low, high = 0.0, goal - before + 60
    for _ in range(50):
        middle = (low + high) / 2
        factor, mean = math.exp(middle), 0.0
        for i in range(size):
            mean += min(free[i] * factor, capped[i])
        if mean <= 1:
            low = middle
        else:
            high = middle
    return low


@compiled
def count_and_close(test: Floats, par: Floats, closed: Ints, stratum: Ints) -> None:
    """Close an open stratum: it joins the totals, and is open no longer."""
    closed += stratum[1:]
    close(test, par, stratum[1], stratum[2], stratum[3], stratum[4])
    stratum[:] = 0
    stratum[0] = -1


@compiled
def release_until(test: Floats, par: Floats, strata: Ints, closed: Ints, t: float) -> None:
    """All releases due before `t`; open strata are closed first, in the order of their epochs."""
    due = math.ceil(t / RELEASE_SECONDS) - 1 - test[7]
    if due <= 0:
        return
    for slot in np.argsort(strata[:, 0]):
        if strata[slot, 0] >= 0:
            count_and_close(test, par, closed, strata[slot])
    for _ in range(due):
        test[7] += 1
        j = test[7]
        for k in range(5):
            gained = test[5] + LOG_PRIOR[k] - math.log(j + 1)
            top = max(test[k], gained)
            test[k] = top + math.log(math.exp(test[k] - top) + math.exp(gained - top))
        test[5] += math.log(j / (j + 1))


@compiled
def add(
    test: Floats,
    par: Floats,
    strata: Ints,
    closed: Ints,
    n1: int,
    x1: int,
    n0: int,
    x0: int,
    t: float,
    epoch: int,
    young: bool = False,
) -> bool:
    """Take one slice into account; whether a stratum closed. `closed` gets the totals n1, x1, n0, x0.

    A stratum stays open while its epoch is `young`.
    """
    was = closed[0] + closed[2]
    release_until(test, par, strata, closed, t)
    stratum = strata[epoch % len(strata)]
    if stratum[0] != epoch and stratum[0] >= 0:  # the label's value is used again
        count_and_close(test, par, closed, stratum)
    stratum[0] = epoch
    stratum[1] += n1
    stratum[2] += x1
    stratum[3] += n0
    stratum[4] += x0
    if not young and min(stratum[1], stratum[3]) >= par[3]:
        count_and_close(test, par, closed, stratum)
    return bool(closed[0] + closed[2] != was)


@compiled
def first_weight(rps: float, dt: float, budget: float = BUDGET) -> float:
    """The adaptive ramp's first weight."""
    return min(max(budget / (rps * dt), W_MIN), W_MAX)


@compiled
def excess_upper(closed: Ints) -> float:
    """Upper bound on how much higher the canary's bad rate is, given the totals of closed strata."""
    n, p = closed[0] + 1.0, (closed[1] + 0.5) / (closed[0] + 1.0)
    upper = (p + Z * Z / (2 * n) + Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))) / (1 + Z * Z / n)
    return float(max(1e-6, upper - (closed[3] + 0.5) / (closed[2] + 1.0)))


@compiled
def next_weight(weight: float, closed: Ints, rps: float, dt: float, down: float, up: float) -> float:
    """The adaptive ramp's next weight; `down` and `up` are the hysteresis, 0 for none."""
    return weight_for(weight, excess_upper(closed), rps, dt, down, up)


@compiled
def weight_for(
    weight: float,
    excess: float,
    rps: float,
    dt: float,
    down: float,
    up: float,
    budget: float = BUDGET,
    w_max: float = W_MAX,
) -> float:
    """The next weight if the canary's bad rate may be higher by `excess`."""
    target = min(max(min(budget / (excess * rps * dt), 4 * weight), W_MIN), w_max)
    if target <= weight * (1 - down) or (target > weight and (target >= weight * (1 + up) or target == w_max)):
        return float(target)
    return min(weight, w_max)


@compiled
def prove(
    logs: Floats,
    pool: Ints,
    n1: int,
    x1: int,
    n0: int,
    x0: int,
    least: float,
    rho: float = RHO,
    delta: float = DELTA,
) -> None:
    """Non-inferiority: a slice joins its pool; a full one is taken in a slice later."""
    full, stays = min(pool[0], pool[2]) >= least, min(n1, n0) >= least
    if full and stays:
        take_in(logs, pool, rho, delta)
    pool[0] += n1
    pool[1] += x1
    pool[2] += n0
    pool[3] += x0
    if full and not stays:
        take_in(logs, pool, rho, delta)


@compiled
def take_in(logs: Floats, pool: Ints, rho: float, delta: float) -> None:
    """The proof with a full pool, which is empty then."""
    ratio = pool[0] * rho / pool[2]
    for i in range(len(SHARES)):
        a = SHARES[i]
        logs[i] += pool[1] * math.log(a) + pool[3] * math.log1p(ratio * (1 - a)) + delta * pool[0] * (1 - a)
    pool[:] = 0


@compiled
def proof(logs: Floats, pools: Ints, least: float, delta: float = DELTA) -> float:
    """ln of the proof's e-value, in which what waits alone counts."""
    standing = logs.copy()
    for pool in pools:
        if pool[0] > 0 and min(pool[0], pool[2]) < least:
            for i in range(len(SHARES)):
                standing[i] += pool[1] * math.log(SHARES[i]) + delta * pool[0] * (1 - SHARES[i])
    return log_sum(standing)
