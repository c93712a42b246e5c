"""The comparisons that every trial makes beside those of `spec.analysis`: `excluded`, `overdue` and `gateway`. Pure.

They see what the answers in `errors` do not show: answers that no revision should cause, requests that hang, and
requests that the gateway fails before they reach a pod. Each Required check has one too (`skipped_checks`), for answers
that it could not judge. Called by `serin.rollout` when a trial starts.
Specification: docs/reference/decision-engine.md, sections 1 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from serin.analysis.counts import Baseline, Tally
from serin.analysis.measurement import How, Measurement, bound_of
from serin.analysis.presets import requests
from serin.evidence.metric import MetricParameters

if TYPE_CHECKING:
    from serin.analysis.presets import Series

GATEWAY = "gateway"
"""The comparison of what the gateway counts by backend."""
SHARE = 0.2
"""The share of falseRollbackRate of each comparison that can roll back."""
RATIO, ABSOLUTE = 1.5, 0.01
"""Tolerance of their proofs: wider than that of errors, because their rates depend on clients too."""
EXCLUDED_MARGIN = SKIPPED_MARGIN = 2.0
MARGIN = 1.25
STRATUM_SECONDS = 60.0
"""How often strata of `excluded` close: a client with a wrong key sends its requests in bursts."""
SILENT_SECONDS = (30, 60, 120, 300, 600)
"""The times of silence that the model server counts."""
MOST_SILENT = 0.02
"""The stable has at most this share of requests that are silent for so long; then a difference is seen soonest."""
USUAL_SILENT = 60
"""The time of silence where the stable had no request."""
GRACE_SECONDS = 15.0
"""Added to the time of silence while an epoch is young: by then every pod was scraped."""


def baseline_tallies(series: Series, *, measured: bool) -> tuple[Tally, ...]:
    """What the baseline reads of the stable, to see which series exist and how long its requests are silent."""
    return (*_by_silence(series), requests(series, measured=False)) if measured else ()


def companions(
    series: Series, baseline: Baseline, alpha: float, *, measured: bool, sticky: bool, names: Collection[str]
) -> tuple[Measurement, ...]:
    """The comparisons whose series the stable has.

    Args:
        series: names of series.
        baseline: of the stable, before the trial.
        alpha: falseRollbackRate; each comparison gets `SHARE` of it.
        measured: whether the model server counts in the pods of both sides.
        sticky: whether the gateway keeps a client at one backend; then a few clients can make all excluded answers of
            a side, so `excluded` holds and proves, and does not roll back.
        names: names of the metrics of `spec.analysis`, which have precedence.
    """

    def measurement(name: str, how: How, bad: Tally | None, total: Tally, margin: float) -> Measurement:
        return Measurement(
            name=f"serin-{name}" if name in names else name,
            how=how,
            total=total,
            bad=bad,
            parameters=MetricParameters(alpha=alpha * SHARE, margin=margin, ratio=RATIO, absolute=ABSOLUTE),
            required=True,
        )

    how = How.EXCLUDED_OUTCOME if measured else How.EXCLUDED_CODE
    excluded = measurement("excluded", how, None, requests(series, measured=measured), EXCLUDED_MARGIN)
    found = [
        replace(
            excluded,
            rejects=not sticky,
            parameters=replace(excluded.parameters, stratum_seconds=STRATUM_SECONDS),
            described="excluded (answered 401, 404, 429, 3xx or the like)",
        )
    ]
    if not measured:
        return tuple(found)
    overdue, settled = _by_silence(series)
    if baseline.histograms.get(settled):
        seconds = _silent_seconds(baseline, overdue, settled)
        bad, ended = (Tally(f'{each.selector}{{le="{seconds}"}}') for each in (overdue, settled))
        found.append(
            replace(
                measurement("overdue", How.PAIR, bad, ended, MARGIN),
                young_seconds=seconds + GRACE_SECONDS,
                settle_seconds=float(seconds),
                described=f"silent for {seconds} s or longer",
            )
        )
    codes = requests(series, measured=False)
    if baseline.histograms.get(codes):
        gateway = measurement(GATEWAY, How.CODE, None, codes, MARGIN)
        found.append(replace(gateway, steers=False, described="failed at the gateway"))
    return tuple(found)


def skipped_checks(own: Collection[Measurement], alpha: float) -> tuple[Measurement, ...]:
    """For each check that a promotion needs, the comparison of the answers that it could not judge.

    They are in no other comparison, so a canary whose answers are too long or too slow to be judged would be judged by
    the rest. The pods of one side can also be too busy for the check, so it holds and proves, and does not roll back.

    Args:
        own: of `spec.analysis`.
        alpha: falseRollbackRate.
    """
    names = {measurement.name for measurement in own}
    checks = {m.total: m for m in own if m.how is How.CHECK and m.required}
    found = []
    for total, check in checks.items():
        name = f"{json.loads(check.check)['name']}-skipped"
        found.append(
            Measurement(
                name=f"serin-{name}" if name in names else name,
                how=How.SKIPPED_CHECK,
                total=total,
                bad=None,
                parameters=MetricParameters(alpha=alpha * SHARE, margin=SKIPPED_MARGIN, ratio=RATIO, absolute=ABSOLUTE),
                required=True,
                rejects=False,
                described="not judged by the check",
                check=check.check,
            )
        )
    return tuple(found)


def absent(measurements: Collection[Measurement]) -> tuple[str, ...]:
    """The comparisons that a trial which the model server measures does not make."""
    made = {measurement.how for measurement in measurements if measurement.described}
    wanted = {"excluded": How.EXCLUDED_OUTCOME, "overdue": How.PAIR, GATEWAY: How.CODE}
    return tuple(name for name, how in wanted.items() if how not in made)


def share_left(built_in: Collection[Measurement]) -> float:
    """The share of falseRollbackRate that is left for the metrics of `spec.analysis`."""
    return 1.0 - SHARE * sum(companion.rejects for companion in built_in)


def _by_silence(series: Series) -> tuple[Tally, Tally]:
    """Requests that were silent for so many seconds, and those that had ended or were silent for so long."""
    overdue, settled = (f"{series.model_server}requests_{what}_total" for what in ("overdue", "settled"))
    return Tally(overdue, by="le"), Tally(settled, by="le")


def _silent_seconds(baseline: Baseline, overdue: Tally, settled: Tally) -> int:
    """The shortest time of silence that at most `MOST_SILENT` of the stable's requests reach, else the longest."""
    silent, all_of = (
        {bound_of(le): count for le, count in baseline.histograms.get(tally, {}).items()}
        for tally in (overdue, settled)
    )
    if not any(all_of.values()):
        return USUAL_SILENT
    few = (
        seconds
        for seconds in SILENT_SECONDS
        if all_of.get(seconds, 0.0) > 0 and silent.get(seconds, 0.0) <= MOST_SILENT * all_of[seconds]
    )
    return next(few, SILENT_SECONDS[-1])
