"""How a route changes from one split to another without a failed request.

Measured with Envoy: a backend that goes from absent to a weight, or from a weight to absent, costs a few 503s each
time. So a backend enters at weight 0, waits until the gateway has programmed that, and leaves the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from serin.api.names import FULL_WEIGHT
from serin.rollout.snapshot import RouteView, Snapshot

REFUSAL_LASTS = timedelta(seconds=15)
"""For this long after a change, a refusal may be because the gateway does not know a new Service yet."""


def is_settled(route: RouteView, now: datetime, settle_seconds: float) -> bool:
    """Whether the gateway serves the route as read.

    A second is added because `changed_at` has whole seconds: the change may be up to one second younger than it says.
    """
    if not route.programmed or route.changed_at is None:
        return False
    return now - route.changed_at >= timedelta(seconds=settle_seconds + 1)


def next_split(
    current: Mapping[str, int],
    wanted: Mapping[str, int],
    *,
    settled: bool,
    unknown: Collection[str] = (),
    stay: Collection[str] = (),
) -> dict[str, int]:
    """The next safe split on the way from `current` to `wanted`; weights in parts of 10,000.

    Weight is taken away at once. A backend gets weight after it was at 0 and `settled`, and is removed after its 0 is
    `settled`. With S at 10,000 and C wanted at 500:
    `{S: 10000}` -> `{S: 10000, C: 0}` -> `{S: 9500, C: 500}`; and back:
    `{S: 9500, C: 500}` -> `{S: 10000, C: 0}` -> `{S: 10000}`. Those in `unknown` get no
    weight yet, because their pods may not know them; those in `stay` are not removed yet.
    """
    if sum(current.values()) != FULL_WEIGHT:  # no route, or one edited by hand: it cannot be changed in safe steps
        return dict(wanted)
    waiting = {r for r in wanted if r not in current or not settled or r in unknown}
    entering = {r for r, w in wanted.items() if w and not current.get(r) and r in waiting}
    present = {r: w for r, w in wanted.items() if r not in entering}
    if not any(present.values()):  # no wanted backend may take traffic yet: keep those that serve
        split = {**current, **dict.fromkeys(wanted.keys() - current.keys(), 0)}
    else:
        largest = max(present, key=lambda r: present[r])
        split = present | dict.fromkeys(entering, 0)
        split[largest] += FULL_WEIGHT - sum(split.values())
        split |= {r: 0 for r, w in current.items() if r not in wanted and (r in stay or not (w == 0 and settled))}
    return split


def lasting_refusal(snapshot: Snapshot) -> str | None:
    """The gateway's refusal, once it has lasted for REFUSAL_LASTS; None before, and without one."""
    route = snapshot.route
    fresh = route.changed_at is not None and snapshot.now - route.changed_at < REFUSAL_LASTS
    return None if fresh else route.refused
