"""Samples that can be queried late, and clocks that differ: what is waited for, and what is said."""

from datetime import timedelta

import pytest

from fakes.prometheus import FakePrometheus, answering
from serin.analysis.counts import Tally
from serin.metric_sources import late_samples
from serin.metric_sources.late_samples import MOST, LateSamples
from serin.metric_sources.prometheus import Prometheus
from serin.settings import Settings
from tests.unit.metric_sources.watches import NOW, SECOND, watch

REQUESTS = Tally("serin_requests_total", by="outcome")
SCRAPE = 15 * SECOND
TARGET = {"instance": "a", "job": "vllm", "revision": "r1", "epoch": "1", "outcome": "ok"}


class Remote:
    """A Prometheus whose samples can be queried `late` seconds after their time, and whose clock is `skew` ahead.

    Samples become visible only every so many seconds, all that are due at once.
    """

    def __init__(self, late: float, skew: float = 0.0, every: int = 1) -> None:
        self.late, self.skew, self.every, self.seconds = late, skew, every, 0
        self.store = FakePrometheus(lambda: self._ms(self.seconds + skew))
        self.coming: list[tuple[float, dict[str, str], int, float]] = []

    @staticmethod
    def _ms(seconds: float) -> int:
        return round((NOW.timestamp() + seconds) * 1000)

    def work(self, seconds: int, phases: dict[str, int], per_second: int = 1) -> None:
        """Let a second pass: each process counts, and is scraped every 15 seconds at its phase."""
        self.seconds = seconds
        for instance, phase in phases.items():
            if seconds % 15 == phase:
                stamp = self._ms(seconds + self.skew)
                self.coming.append((seconds + self.late, TARGET | {"instance": instance}, stamp, seconds * per_second))
        for each in [each for each in self.coming if each[0] <= seconds and seconds % self.every == 0]:
            self.coming.remove(each)
            self.store.store(REQUESTS.selector, each[1], each[2], float(each[3]))


@pytest.mark.parametrize(
    ("late", "skew", "every"),
    [*((late, skew, 1) for late in (0, 5, 17, 30, 200) for skew in (0, -60, 60)), (5, 0, 60), (20, 0, 100)],
)
async def test_late_samples_are_counted_exactly(late: int, skew: int, every: int) -> None:
    remote, phases = Remote(late, skew, every), {"a": 2, "b": 9}
    now = NOW
    source = Prometheus(Settings(identity="test"), clock=lambda: now, connect=answering(remote.store))
    position, total, first, warnings = None, 0, 0, ()
    for seconds in range(1, 900):
        remote.work(seconds, phases)
        now = NOW + seconds * SECOND
        if seconds % 5:
            continue
        one = watch("a", position, REQUESTS, requests=REQUESTS)
        read = (await source.read([one]))[one.key]
        assert read.error is None
        warnings = read.warnings
        if position is None and seconds >= 500:  # the canary's pods have loaded
            position, first = (now.replace(microsecond=0) - timedelta(seconds=300)), 1
        for interval in read.intervals:
            position = interval.end
            total += sum(interval.counts.get(REQUESTS, {}).values())
    source.close()
    assert position is not None
    assert first
    stored = remote.store._series[REQUESTS.selector].values()
    begin, end = (round(at.timestamp() * 1000) for at in (NOW + 200 * SECOND, position))
    truth = 0.0
    for series in stored:
        values = [(at, float(text)) for at, (_, text) in zip(series.times, series.values, strict=True)]
        truth += max(v for at, v in values if at <= end) - max(v for at, v in values if at <= begin)
    assert total == truth
    assert any("Samples can be queried up to" in warning for warning in warnings) == (late > 15)
    assert any("clock is 60 s" in warning for warning in warnings) == (skew != 0)
    assert now - position <= timedelta(seconds=late + every + 60 + 15 + 15 + 5)


def test_process_that_is_gone_is_not_waited_for() -> None:
    late = LateSamples()
    for seconds in range(0, 300, 5):
        found = {("a",): NOW + (seconds // 15 * 15) * SECOND, ("b",): NOW}
        late.note(found, NOW + seconds * SECOND, SCRAPE)
    assert late.most <= 5 * SECOND
    assert late.known_until(("a",), SCRAPE) == NOW + 285 * SECOND + late_samples.PERIOD * SCRAPE


def test_processes_that_all_stand_still_are_late_and_not_gone() -> None:
    late = LateSamples()
    for seconds in range(0, 300, 5):
        late.note({("a",): NOW, ("b",): NOW + 9 * SECOND}, NOW + seconds * SECOND, SCRAPE)
    assert late.known_until(("a",), SCRAPE) == NOW + late_samples.PERIOD * SCRAPE
    late.note({("a",): NOW, ("b",): NOW + 300 * SECOND}, NOW + 310 * SECOND, SCRAPE)
    assert late.known_until(("a",), SCRAPE) is None


def test_wait_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_samples, "MOST_PROCESSES", 3)
    late = LateSamples()
    late.note({(str(n),): NOW - 3600 * SECOND for n in range(9)}, NOW, SCRAPE)
    assert len(late.newest) == 3
    assert late.most == MOST
