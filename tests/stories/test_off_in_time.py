"""A canary whose requests get no answer loses its weight within the stated time (docs/concepts/verdict.md).

Three requests per second reach each side, Prometheus scrapes every 15 s and the operator reads every 5 s, as everywhere
in these stories. A catastrophe needs two strata, because no single one decides alone, and two strata begin and end with
a reading each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.traffic import SCRAPE_SECONDS, Load, stalls
from serin.analysis.companions import GRACE_SECONDS, SILENT_SECONDS, STRATUM_SECONDS
from serin.rollout.phases import Phase
from tests.stories import trials

READ_SECONDS = 5.0
RATE = 3.0
"""Requests per second of each side."""
LAG = SCRAPE_SECONDS
"""Seconds until a moment can be read: the default of `evidenceLag`."""
EXCLUDED = 2 * STRATUM_SECONDS + 2 * READ_SECONDS + LAG
"""Two strata of a minute."""
OVERDUE = SILENT_SECONDS[0] + GRACE_SECONDS + 60 / RATE + LAG
"""The stable answers at once, so 30 s of silence count. Some strata of a few requests follow the first one."""
Q99_SECONDS = 16.2
"""The time within which 99 % of the answers of `fakes.traffic.ordinary` end."""
GATEWAY = Q99_SECONDS + SCRAPE_SECONDS + 90 / RATE + LAG
"""Series without epochs are ignored for so long after a change of weight; then some strata follow."""
ROLLOUT: dict[str, Any] = {"ramp": {"steps": [{"weight": 50, "hold": "20s"}]}, "minimumBake": "20s"}
ERRORS = {"metrics": [{"name": "errors", "preset": "ErrorRate", "tolerance": {"absolute": 0.05}}]}
QUICK = Load(2 * RATE, restarts_per_hour=0.0, lost_scrapes=0.0, gateway=True, bad_rate=lambda _seconds: 0.0)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("load", "within", "said"),
    [
        (replace(QUICK, excluded=(0.0, 1.0)), EXCLUDED, "excluded: "),
        (replace(QUICK, canary_durations=stalls(0.3, 600.0)), OVERDUE, "overdue: "),
        (replace(QUICK, lost_on_the_way=0.5), GATEWAY, "gateway: "),
    ],
    ids=["all are answered 404", "30 % hang", "the gateway fails half"],
)
async def test_canary_without_answers_is_off_within_the_stated_time(
    load: Load, within: float, said: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "TICK_SECONDS", 1.0)
    monkeypatch.setattr(trials, "RESTARTS", 0.0)
    monkeypatch.setattr(trials, "WARM_UP_SECONDS", 60.0)

    trial = await trials.play(load, seed, minutes=6, rollout=ROLLOUT, analysis=ERRORS)

    assert trial.outcome is Phase.ROLLED_BACK
    assert trial.world.status()["rejected"]["message"].startswith(said)
    first = min(epoch.began for epoch in trial.state.epochs.values() if epoch.weight > 0)
    assert (trial.world.now - first).total_seconds() <= within
