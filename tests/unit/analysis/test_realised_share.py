"""A canary that gets far more of the requests than its weight."""

from __future__ import annotations

from datetime import timedelta

import pytest

from serin.analysis.presets import DEFAULT_SERIES, arrivals
from serin.analysis.realised_share import far_above_weight
from serin.analysis.trial_state import Epoch
from serin.evidence.slices import RequestsBySide
from tests.unit.rollout.cases import GOOD, NOON, make_evidence


@pytest.mark.parametrize(
    ("weight", "arrived", "far"),
    [
        pytest.param(500, RequestsBySide(500, 9_500), False, id="as its weight"),
        pytest.param(500, RequestsBySide(900, 9_100), False, id="nearly twice"),
        pytest.param(500, RequestsBySide(1_050, 8_950), False, id="twice, but for chance"),
        pytest.param(500, RequestsBySide(2_000, 8_000), True, id="four times"),
        pytest.param(500, RequestsBySide(4, 6), False, id="too few to say"),
        pytest.param(500, RequestsBySide(0, 10_000), False, id="none"),
        pytest.param(5_000, RequestsBySide(9_900, 100), False, id="at half of the traffic there is no twice"),
    ],
)
def test_share_counts_as_far_above_only_beyond_twice_the_weight(
    weight: int, arrived: RequestsBySide, *, far: bool
) -> None:
    state = make_evidence(
        GOOD,
        arrivals=arrivals(DEFAULT_SERIES, measured=True),
        epochs={1: Epoch(NOON - timedelta(hours=1), weight)},
        arrived=arrived,
    )
    assert (far_above_weight(state) is not None) is far


def test_nothing_is_known_before_the_first_request() -> None:
    assert far_above_weight(None) is None
