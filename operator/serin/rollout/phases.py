"""The phases of an LLMDeployment and which may follow which.

A phase is read off the snapshot on every tick, never stored to be acted on; the table is the drawing of what `decide`
can do, and the stories check every tick against it.
"""

from enum import StrEnum


class Phase(StrEnum):
    """Where a rollout stands, as `kubectl get llmdep` shows it."""

    INSTALLING = "Installing"
    """No stable yet: the first revision loads and goes to 100 % when it is Ready."""
    STABLE = "Stable"
    """The stable carries all traffic and nothing else runs."""
    PREPARING = "Preparing"
    """A canary loads, or gets the pods that its next weight needs; its weight does not grow."""
    RAMPING = "Ramping"
    """The canary gets its share and is compared with the stable."""
    PAUSED = "Paused"
    """A pause step or `spec.paused` holds the canary at its weight."""
    PROMOTING = "Promoting"
    """The canary has passed: it takes over all traffic and the old stable drains."""
    ROLLING_BACK = "RollingBack"
    """The canary is withdrawn: weight 0, out of the route, drained, deleted."""
    ROLLED_BACK = "RolledBack"
    """The spec asks for a revision that was rejected; the stable carries all traffic."""
    BLOCKED = "Blocked"
    """The spec cannot be carried out as written; the stable serves on."""


_CANARY = frozenset({Phase.PREPARING, Phase.RAMPING, Phase.PAUSED})
_AFTER_STABLE = frozenset({Phase.STABLE, Phase.ROLLED_BACK, Phase.BLOCKED}) | _CANARY

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.INSTALLING: frozenset({Phase.STABLE, Phase.PROMOTING, Phase.BLOCKED, Phase.PREPARING, Phase.ROLLING_BACK}),
    Phase.STABLE: _AFTER_STABLE,
    Phase.PREPARING: frozenset(Phase) - {Phase.INSTALLING},
    Phase.RAMPING: frozenset(Phase) - {Phase.INSTALLING},
    Phase.PAUSED: frozenset(Phase) - {Phase.INSTALLING},
    Phase.PROMOTING: frozenset(Phase) - {Phase.INSTALLING},
    Phase.ROLLING_BACK: frozenset(Phase) - {Phase.INSTALLING},
    Phase.ROLLED_BACK: _AFTER_STABLE | {Phase.ROLLING_BACK},
    Phase.BLOCKED: frozenset(Phase),
}
"""Which phases may follow a phase, apart from itself. Installing is never seen again once there was a stable."""
