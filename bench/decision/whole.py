"""Whole trials of Serin with every comparison, until promotion or rollback; called by `rows`.

A request of the canary can be lost before the pod (the gateway answers 503), hang until its client gives up, end as
excluded (404), end because its client left, fail, or succeed. Ordinary answers take a few seconds: two thirds end in
the slice of their arrival, the rest in the next one. Everything is counted by the epoch of the arrival, except by the
gateway, which knows no epochs.

Comparisons: `ERRORS`, `EXCLUDED`, `OVERDUE` (silent for `OVERDUE_SLICES`) and `GATEWAY` (codes). A difference in how
often clients leave only holds. A promotion needs the proof that less than a tenth of the arrivals is lost, and a loss
above that beyond doubt withdraws the canary. Only weights of whole percents from 5 % on are looked at for this, because
gateways round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.decision.kernel import (
    BUDGET,
    LOG_PRIOR,
    LOG_PSI,
    W_MAX,
    Floats,
    Ints,
    add,
    compiled,
    count_and_close,
    excess_upper,
    first_weight,
    log_e,
    log_sum,
    new_open,
    new_test,
    parameters,
    proof,
    prove,
    weight_for,
)
from bench.decision.rollouts import DT

ERRORS, EXCLUDED, OVERDUE, GATEWAY = range(4)
COMPARISONS = 4
NAMES = ("errors", "excluded", "overdue", "gateway")
FAILS, IS_EXCLUDED, HANGS, LOST, LEAVES = range(5)
"""Columns of the rates of a side: shares of the requests that arrive and do not hang, of those that arrive, of all."""
STEPS, ADAPTIVE, GROWING = range(3)
"""Ramps: 5, 25 and 50 % for ten minutes each; adaptive up to 25 %; the default: adaptive up to 25 %, and up to 50 %
once every proof has begun to succeed and no comparison speaks against the canary."""
ENDED, HOW, BY, REQUESTS, FAILED = range(5)
"""Columns of a run: the last slice (-1: none in time), how it ended, by which comparison, the canary's requests, and
those of them that failed beyond what the stable's rate explains (expected, given the requests)."""
PROMOTED, ROLLED_BACK, WITHDRAWN = 1, 2, 3

SHARES = (0.4, 0.2, 0.2, 0.2)
"""Of alpha."""
MARGINS = (1.1, 2.0, 1.25, 1.25)
BAKE_SLICES = STEP_SLICES = 40
OVERDUE_SLICES, GIVES_UP_SLICES = 4, 40
"""A request is overdue after 60 s; its client gives up after 600 s."""
EARLY = 2 / 3
YOUNG_SLICES = np.array([2, 4, 5, 0])
"""How long strata of a young epoch stay open: nine of ten answers and a scrape, 60 s, and D + 15 s."""
SETTLE_SLICES = np.array([2, 2, 4, 0])
RECENT = GIVES_UP_SLICES + 8
"""Slices after which nothing of an epoch can be open."""
BLANK_SLICES = 2
"""How long the gateway's series are ignored after a change of weight."""
GROWS_BELOW = 0.5
"""No more weight while a comparison has a larger log E."""
FEW_LOST, MANY_LOST = np.array([0.95, 1.0]), np.array([0.02, 0.2, 0.4, 0.6, 0.7, 0.8])
"""Alternatives of the proof that enough arrives, and of the test that too little does: shares that arrive."""
ENOUGH = 0.9
PROVEN, BEYOND_DOUBT = math.log(20), math.log(1000)
NONE_OF = 20.0
"""Canary requests that must have been expected, and none arrived, before all count as lost."""
PERIOD_SLICES = 4
"""Arrivals, and clients that left, are taken a minute at a time; a period adds at most a third of `BEYOND_DOUBT`."""
PSI, PRIOR = np.exp(LOG_PSI), LOG_PRIOR
LEFT_RATIO, LEFT_ABSOLUTE = 1.5, 0.01
"""Clients may leave one side this many times as often as the other, plus this."""


def comparisons(made: tuple[int, ...], alpha: float = 0.01) -> Floats:
    """The parameters of each comparison, and whether it is made (last column); those that are made share alpha."""
    whole = sum(SHARES[each] for each in made)
    rows = [parameters(alpha * SHARES[c] / whole, MARGINS[c], 0.5) for c in range(COMPARISONS)]
    return np.array([[*row, c in made] for c, row in enumerate(rows)])


def tolerances(rps: float) -> Floats:
    """Times and absolute tolerance of each proof: tight for errors, and tighter where there is enough traffic."""
    wide = (1.5, 0.01)
    return np.array([(1.5, 0.002 if rps >= 5 else 0.005), wide, wide, wide])


def budget(rps: float) -> float:
    """The blast budget of the default ramp."""
    return 1.0 if rps < 2 else BUDGET


@compiled
def _counts(gen: np.random.Generator, arrived: int, rates: Floats, early: Ints, late: Ints) -> int:
    """Split the arrivals of one side in a slice: fills `early` and `late` (n, failed, excluded, left); what hangs."""
    hung = gen.binomial(arrived, rates[HANGS])
    rest = arrived - hung
    left = gen.binomial(rest, rates[LEAVES])
    excluded = gen.binomial(rest - left, rates[IS_EXCLUDED])
    failed = gen.binomial(rest - left - excluded, rates[FAILS])
    parts = (rest - left - excluded - failed, failed, excluded, left)
    early[:] = 0
    for kind in range(4):
        now = gen.binomial(parts[kind], EARLY)
        early[0] += now
        late[0] += parts[kind] - now
        if kind > 0:
            early[kind] = now
            late[kind] = parts[kind] - now
    return int(hung)


@compiled
def _loss(kept: Floats, weight: float, s1: int, s0: int, logs: Floats) -> None:
    """Add arrivals to the logs of the likelihood ratios against a loss of exactly a tenth."""
    base = ENOUGH * weight / (ENOUGH * weight + 1 - weight)
    for k in range(len(kept)):
        p = kept[k] * weight / (kept[k] * weight + 1 - weight)
        logs[k] += s1 * math.log(p / base) + s0 * math.log((1 - p) / (1 - base))


@compiled
def _loses(logs: Floats, weight: float, s1: int, s0: int) -> None:
    """One period of the test that finds a loss; it begins again whenever its evidence falls below 1."""
    before = log_sum(logs)
    _loss(MANY_LOST, weight, s1, s0, logs)
    now = log_sum(logs)
    if now <= 0:
        logs[:] = -math.log(len(logs))
    else:
        logs -= max(0.0, now - before - BEYOND_DOUBT / 3)


@compiled
def _leaves(logs: Floats, n1: int, x1: int, n0: int, x0: int) -> None:
    """One period of the test that the first side's clients leave more often; it begins again as `_loses` does."""
    for k in range(len(logs)):
        worse = n1 * LEFT_RATIO * PSI[k]
        th0, th1 = n1 * LEFT_RATIO / (n1 * LEFT_RATIO + n0), worse / (worse + n0)
        a = th1 / th0
        logs[k] += x1 * math.log(a) + x0 * math.log((1 - th1) / (1 - th0)) - LEFT_ABSOLUTE * n1 * (a - 1)
    if log_sum(logs) <= 0:
        logs[:] = PRIOR


@compiled
def _whole_percent(weight: float) -> bool:
    return weight >= 0.05 and abs(100 * weight - round(100 * weight)) < 1e-9


@compiled
def trials(
    gen: np.random.Generator,
    arrivals: Ints,
    rps: float,
    rates: Floats,
    mode: int,
    blast: float,
    compared: Floats,
    tolerance: Floats,
    guards: bool,
    lenient: bool,
    grows_below: float,
    hysteresis: Floats,
) -> Floats:
    """Play a block of trials.

    `rates` are those of the canary and of the stable; `compared` and `tolerance` come from `comparisons` and
    `tolerances`. `guards`: whether losses and clients that leave are looked at. `grows_below`: see `GROWS_BELOW`.
    `lenient`: whether requests whose client left are taken in favour of the canary for a rollback, and against it for
    the proof: they count as good answers of the one side and not at all of the other.
    """
    runs, slices = arrivals.shape
    out = np.zeros((runs, 5))
    lags = (GIVES_UP_SLICES, OVERDUE_SLICES, 1, 0)
    for run in range(runs):
        test, strata = np.zeros((COMPARISONS, 9)), np.zeros((COMPARISONS, 32, 5), dtype=np.int64)
        for c in range(COMPARISONS):
            test[c], strata[c] = new_test(), new_open()
        closed = np.zeros((COMPARISONS, 4), dtype=np.int64)
        logs = np.full((COMPARISONS, 8), -math.log(8.0))
        pools = np.zeros((COMPARISONS, slices, 4), dtype=np.int64)
        few, many = np.full(len(FEW_LOST), -math.log(len(FEW_LOST))), np.full(len(MANY_LOST), -math.log(len(MANY_LOST)))
        more, fewer = PRIOR.copy(), PRIOR.copy()
        arrived, expected, left = np.zeros(2, dtype=np.int64), 0.0, np.zeros(4, dtype=np.int64)
        came, awaited = 0, 0.0
        late, hung = np.zeros((slices, 2, 4), dtype=np.int64), np.zeros((slices, 2), dtype=np.int64)
        early, sums = np.zeros((2, 4), dtype=np.int64), np.zeros((COMPARISONS, 6), dtype=np.int64)
        epochs, began = np.zeros(slices, dtype=np.int64), np.zeros(slices + 1, dtype=np.int64)
        weight, step, epoch = 0.05 if mode == STEPS else first_weight(rps, DT, blast), 0, 0
        out[run, ENDED] = -1
        for i in range(slices):
            epochs[i] = epoch
            end = DT * (i + 1)
            sent = gen.binomial(arrivals[run, i], weight)
            lost = gen.binomial(sent, rates[0, LOST])
            s1, s0 = sent - lost, arrivals[run, i] - sent
            hung[i, 0] = _counts(gen, s1, rates[0], early[0], late[i, 0])
            hung[i, 1] = _counts(gen, s0, rates[1], early[1], late[i, 1])
            out[run, REQUESTS] += sent
            excess = rates[0] - rates[1]
            out[run, FAILED] += lost + s1 * (excess[HANGS] + excess[FAILS] + excess[IS_EXCLUDED])
            came += s1
            awaited += arrivals[run, i] * weight
            if _whole_percent(weight):
                _loss(FEW_LOST, weight, s1, s0, few)
                arrived[0] += s1
                arrived[1] += s0
                expected += (s1 + s0) * weight
            for side in range(2):
                left[2 * side] += early[side, 0] + (late[i - 1, side, 0] if i else 0)
                left[2 * side + 1] += early[side, 3] + (late[i - 1, side, 3] if i else 0)
            if guards and (i + 1) % PERIOD_SLICES == 0:
                if arrived.sum() > 0:
                    _loses(many, expected / arrived.sum(), arrived[0], arrived[1])
                    arrived[:], expected = 0, 0.0
                if left[0] > 0 and left[2] > 0:
                    _leaves(more, left[0], left[1], left[2], left[3])
                    _leaves(fewer, left[2], left[3], left[0], left[1])
                    left[:] = 0
            # What ended or became overdue in this slice, by the epoch of its arrival, oldest first.
            before = closed[:, 0].sum() - closed[GATEWAY, 0]
            sums[:] = 0
            fed = -1
            for source in range(4):
                j = i - lags[source]
                if j < 0:
                    continue
                for side in range(2):
                    n, x = 2 * side, 2 * side + 1
                    if source == 0:
                        for c in (ERRORS, EXCLUDED):
                            sums[c, n] += hung[j, side]
                        sums[ERRORS, x] += hung[j, side]
                    elif source == 1:
                        sums[OVERDUE, n] += hung[j, side]
                        sums[OVERDUE, x] += hung[j, side]
                    else:
                        ended = late[j, side] if source == 2 else early[side]
                        for c in (ERRORS, EXCLUDED, OVERDUE):
                            sums[c, n] += ended[0]
                        sums[ERRORS, x] += ended[1]
                        if lenient:
                            sums[ERRORS, 4 + side] += ended[3]
                        sums[EXCLUDED, x] += ended[2]
                if source < 3 and epochs[max(0, i - lags[source + 1])] == epochs[j]:
                    continue
                # Between the epochs that got counts: those whose strata are due, and whose pools got nothing.
                for e in range(max(fed + 1, epochs[max(0, i - RECENT)]), epochs[j]):
                    _close_due(test, compared, strata, closed, logs, pools, tolerance, i, e, began)
                fed = epochs[j]
                _feed(test, compared, strata, closed, logs, pools, tolerance, sums, end, i, fed, began)
                sums[:] = 0
            # The gateway sees codes as answers end, and no epochs; what hangs has no code.
            if compared[GATEWAY, 4] > 0 and i - began[epoch] >= BLANK_SLICES:
                n1, x1, n0, x0 = early[0, 0] + lost, early[0, 1] + lost, early[1, 0], early[1, 1]
                n1, n0 = n1 - early[0, 2] - early[0, 3], n0 - early[1, 2] - early[1, 3]
                if i > 0:
                    a, b = late[i - 1, 0], late[i - 1, 1]
                    n1, x1, n0, x0 = n1 + a[0] - a[2] - a[3], x1 + a[1], n0 + b[0] - b[2] - b[3], x0 + b[1]
                g = GATEWAY
                add(test[g], compared[g], strata[g], closed[g], n1, x1, n0, x0, end, epoch)
                for e in range(max(0, epoch - 1), epoch + 1):
                    now = (n1, x1, n0, x0) if e == epoch else (0, 0, 0, 0)
                    prove(
                        logs[g],
                        pools[g, e],
                        now[0],
                        now[1],
                        now[2],
                        now[3],
                        compared[g, 3],
                        tolerance[g, 0],
                        tolerance[g, 1],
                    )
            # The verdict.
            worst, proven, promising = log_sum(many) if guards else -math.inf, True, True
            for c in range(COMPARISONS):
                if compared[c, 4] == 0:
                    continue
                against = log_e(test[c])
                if test[c, 8] > 0 and out[run, ENDED] < 0:
                    out[run, ENDED], out[run, HOW], out[run, BY] = i, ROLLED_BACK, c
                if c != GATEWAY:
                    worst = max(worst, against)
                    promising = promising and log_sum(logs[c]) > 0 and against <= 1e-9
                proven = proven and proof(logs[c], pools[c, : epoch + 1], compared[c, 3], tolerance[c, 1]) >= PROVEN
            if out[run, ENDED] >= 0:
                break
            if guards:
                if log_sum(many) >= BEYOND_DOUBT - 1e-9 or (came == 0 and awaited >= NONE_OF and i >= 3):
                    out[run, ENDED], out[run, HOW] = i, WITHDRAWN
                    break
                differs = max(log_sum(more), log_sum(fewer)) >= BEYOND_DOUBT
                proven = proven and log_sum(few) >= PROVEN and not differs
                if differs:
                    worst = math.inf
            done = i + 1 >= BAKE_SLICES if mode != STEPS else step == 2 and i + 1 - began[epoch] >= STEP_SLICES
            if done and proven:
                out[run, ENDED], out[run, HOW] = i, PROMOTED
                break
            # The weight.
            was = weight
            if mode == STEPS:
                if step < 2 and i + 1 - began[epoch] >= STEP_SLICES and worst <= grows_below:
                    step += 1
                    weight = 0.25 if step == 1 else 0.5
            elif closed[:, 0].sum() - closed[GATEWAY, 0] != before:
                most = W_MAX
                if mode == GROWING and (promising or (weight > W_MAX and worst <= grows_below)):
                    most = 2 * W_MAX
                upper = 1e-6
                for c in (ERRORS, EXCLUDED, OVERDUE):
                    if compared[c, 4] > 0:
                        upper = max(upper, excess_upper(closed[c]))
                weight = weight_for(weight, upper, rps, DT, hysteresis[0], hysteresis[1], blast, most)
                if weight >= 0.05:  # whole percents, to which gateways round
                    weight = math.floor(100 * weight + 1e-9) / 100
                if weight > was and worst > grows_below:
                    weight = was
            if weight != was:
                epoch += 1
                began[epoch] = i + 1
    return out


@compiled
def _feed(
    test: Floats,
    compared: Floats,
    strata: Ints,
    closed: Ints,
    logs: Floats,
    pools: Ints,
    tolerance: Floats,
    sums: Ints,
    end: float,
    i: int,
    epoch: int,
    began: Ints,
) -> None:
    """Give the counts of one epoch in a slice to every comparison of the model server."""
    for c in range(COMPARISONS):
        if compared[c, 4] == 0 or c == GATEWAY:
            continue
        age = i + 1 - began[epoch]
        young = age % YOUNG_SLICES[c] != 0 if c == EXCLUDED else age <= YOUNG_SLICES[c]
        s = sums[c]
        add(test[c], compared[c], strata[c], closed[c], s[0], s[1], s[2] - s[5], s[3], end, epoch, young)
        if age >= SETTLE_SLICES[c]:
            least, rho, delta = compared[c, 3], tolerance[c, 0], tolerance[c, 1]
            prove(logs[c], pools[c, epoch], s[0] - s[4], s[1], s[2], s[3], least, rho, delta)


@compiled
def _close_due(
    test: Floats,
    compared: Floats,
    strata: Ints,
    closed: Ints,
    logs: Floats,
    pools: Ints,
    tolerance: Floats,
    i: int,
    epoch: int,
    began: Ints,
) -> None:
    """An epoch that got no counts in this slice: its strata close by the clock, and full pools join the proof."""
    for c in range(COMPARISONS):
        if compared[c, 4] == 0 or c == GATEWAY:
            continue
        age, s, least = i + 1 - began[epoch], strata[c, epoch % len(strata[c])], compared[c, 3]
        due = age % YOUNG_SLICES[c] == 0 if c == EXCLUDED else age > YOUNG_SLICES[c]
        if s[0] == epoch and due and min(s[1], s[3]) >= least:
            count_and_close(test[c], compared[c], closed[c], s)
        if pools[c, epoch, 0] > 0:
            prove(logs[c], pools[c, epoch], 0, 0, 0, 0, least, tolerance[c, 0], tolerance[c, 1])


@dataclass(frozen=True)
class Ends:
    """How the trials of one scenario ended, as shares, minutes and requests."""

    runs: Floats

    def share(self, how: int) -> float:
        """The share of the trials that ended so."""
        return float((self.runs[:, HOW] == how).mean())

    @property
    def off(self) -> float:
        """The share in which the canary was taken off: rolled back or withdrawn."""
        return self.share(ROLLED_BACK) + self.share(WITHDRAWN)

    def minutes(self, how: tuple[int, ...], quantile: float = 0.5) -> float:
        """A quantile of the minutes until such an end, over all trials; infinite if too few ended so."""
        took = np.where(np.isin(self.runs[:, HOW], how), (self.runs[:, ENDED] + 1) * DT / 60, math.inf)
        return float(np.quantile(took, quantile, method="higher"))

    @property
    def _took(self) -> Floats:
        last = np.where(self.runs[:, HOW] > 0, self.runs[:, ENDED], self.runs[:, ENDED].max())
        return np.asarray((last + 1) * DT / 60, dtype=np.float64)

    @property
    def mean_minutes(self) -> float:
        """Mean minutes until the end; a trial without one is charged as much as the longest."""
        return float(self._took.mean())

    @property
    def mean_error(self) -> float:
        """Standard error of `mean_minutes`."""
        return float(self._took.std() / math.sqrt(len(self.runs)))

    @property
    def failed(self) -> float:
        """Median of the canary's failed requests until the end."""
        return float(np.median(self.runs[:, FAILED]))

    @property
    def failed_mean(self) -> float:
        """Mean of the canary's failed requests until the end."""
        return float(self.runs[:, FAILED].mean())

    def by(self, comparison: int) -> float:
        """The share of the trials that this comparison rolled back."""
        return float(((self.runs[:, HOW] == ROLLED_BACK) & (self.runs[:, BY] == comparison)).mean())
