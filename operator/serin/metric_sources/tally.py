"""How counters become counts: which response codes are good, bad or neither, and what happened since a moment.

Pure; used by `serin.metric_sources.prometheus`. What the counts mean for a canary is judged in `serin.rollout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from serin.rollout.snapshot import Counts

Series = frozenset[tuple[str, str]]
"""The labels of a series, without the name of its metric."""

BAD = frozenset({"400", "413", "422"})
"""Client errors that a bad revision causes: a context too short, a limit too low, a parameter it does not take."""
NOT_COUNTED = frozenset({"401", "403", "404", "408", "429", "499"})
"""Codes that say something about the client or its quota, and nothing about the revision."""


@dataclass(frozen=True)
class Sample:
    """A counter as it was scraped."""

    series: Series
    code: str
    value: float
    at: datetime


@dataclass(frozen=True)
class Baseline:
    """What the counters showed at the start of a window."""

    since: datetime
    backends: frozenset[str]
    """The backends that were asked for; one that is missing in `values` had no series then."""
    values: Mapping[Series, float]


def is_bad(code: str) -> bool:
    """Whether a finished request with this exact code counts against the revision."""
    return code.startswith("5") or code in BAD


def counted(samples: Iterable[Sample], baseline: Baseline) -> Counts:
    """Finished requests since the baseline, and how many of them were bad."""
    requests = bad = 0
    for sample in samples:
        if sample.code in NOT_COUNTED:
            continue
        before = baseline.values.get(sample.series, 0.0)
        # Lower than before means that the counter started anew in between: all that it shows is new.
        new = round(sample.value - before if sample.value >= before else sample.value)
        requests += new
        bad += new if is_bad(sample.code) else 0
    return Counts(requests=requests, bad=bad)
