"""What the operator has counted is found again in Prometheus, whatever it went through meanwhile: `serin replay`."""

from __future__ import annotations

import json

import pytest

from fakes.prometheus import answering
from fakes.traffic import SCRAPE_SECONDS, Load
from fakes.world import NAME, NAMESPACE
from serin.analysis.update import advance
from serin.evidence.metric import Comparison
from serin.replay.command import chosen, lines, look_up, read_again
from serin.replay.recorded import replay
from serin.replay.trial import begun, compare
from serin.rollout.phases import Phase
from serin.settings import Settings
from tests.stories.test_two_hundred import ADAPTIVE, ERRORS, FIXED, LATENCY
from tests.stories.trials import play

SETTINGS = Settings(identity="test", scrape_interval=SCRAPE_SECONDS)


@pytest.mark.parametrize(
    ("load", "rollout", "ends"),
    [
        (Load(60, restarts_per_hour=3), FIXED, Phase.STABLE),
        (Load(60, worse=5, restarts_per_hour=3), ADAPTIVE, Phase.ROLLED_BACK),
    ],
    ids=["promoted", "rolled back"],
)
async def test_replay_reads_rollout_again_to_the_last_request(
    load: Load, rollout: dict[str, object], ends: Phase
) -> None:
    trial = await play(load, 7, rollout=rollout, analysis={"metrics": [ERRORS, LATENCY]})
    assert trial.outcome is ends
    connect = answering(trial.world.prometheus)
    looked_up = await look_up(trial.world.cluster, NAMESPACE, NAME)
    intervals = [interval async for interval in read_again(NAMESPACE, NAME, looked_up, SETTINGS, connect=connect)]
    canary, stable = looked_up.compared.canary.revision, looked_up.compared.stable.revision
    again = advance(begun(looked_up.state), intervals, canary=canary, stable=stable)
    comparison = compare(looked_up.state, again)
    assert comparison.agrees, comparison.message
    for boundary in (None, 1):
        metric, leaf = chosen(looked_up.state, "errors" if boundary is None else "e2e", boundary)
        answers = list(replay(map(json.dumps, lines(looked_up, intervals, metric=metric, leaf=leaf))))
        test = again.metrics[metric].tests.leaves[leaf]
        assert isinstance(test, Comparison)
        assert answers[-1]["log_e"] == pytest.approx(test.log_e, abs=1e-9)
    # Cut elsewhere it is the same trial: the totals stay.
    elsewhere = SETTINGS.model_copy(update={"scrape_interval": 7.0, "evidence_lag": SCRAPE_SECONDS})
    others = [interval async for interval in read_again(NAMESPACE, NAME, looked_up, elsewhere, connect=connect)]
    assert len(others) > len(intervals)
    assert compare(looked_up.state, advance(begun(looked_up.state), others, canary=canary, stable=stable)).agrees
