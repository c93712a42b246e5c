"""The phases of an LLMDeployment, and which phase may follow which.

The phase follows from the snapshot at every reconcile; no decision reads the stored one. The table lists what `decide`
can do, and the stories check every reconcile against it. `serin.rollout.headline` names the phase.
"""

from enum import StrEnum


class Phase(StrEnum):
    """The state of a rollout, as `kubectl get llmdep` shows it."""

    INSTALLING = "Installing"
    """There is no stable yet: the first revision starts, and gets all traffic when it is Ready."""
    STABLE = "Stable"
    """The stable carries all traffic and nothing else runs."""
    PREPARING = "Preparing"
    """The canary waits for pods, metrics or the gateway; its weight does not grow."""
    RAMPING = "Ramping"
    """The canary has its weight and is compared with the stable."""
    PAUSED = "Paused"
    """A pause step, `spec.paused` or an inconclusive deadline holds the canary at its weight."""
    PROMOTING = "Promoting"
    """The canary takes over all traffic, at once or after a holdback; then the old stable drains."""
    ROLLING_BACK = "RollingBack"
    """The canary is being removed: weight 0, out of the route, drained, deleted."""
    ROLLED_BACK = "RolledBack"
    """The spec asks for a revision that was rejected; the stable carries all traffic."""
    BLOCKED = "Blocked"
    """Serin cannot do what the spec asks for; the stable keeps serving."""


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
"""Which phases may follow a phase, apart from itself. Installing does not come again once there was a stable."""
