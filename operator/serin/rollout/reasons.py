"""Why: the CamelCase reasons of conditions, Events, logs and metrics, one sentence each.

A reason is used alike in all four places. The reference page of the docs is printed from this enum.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A documented constant with its sentence in `explanation`."""

    explanation: str

    def __new__(cls, value: str, explanation: str) -> Reason:
        """Make a member from its name and its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    # Life of a deployment
    INSTALLING = "Installing", "The first revision is loading; it gets all traffic when it is Ready."
    SERVING = "Serving", "The stable carries all traffic."
    SCALING = "Scaling", "The stable is being brought to the number of replicas that the spec asks for."
    STABLE_UNAVAILABLE = "StableUnavailable", "No pod of the stable is Ready."
    # A canary
    CANARY_LOADING = "CanaryLoading", "The canary's pods are not Ready yet; it gets no traffic."
    CANARY_SCALING = "CanaryScaling", "The canary needs more Ready pods before its next weight."
    CANARY_NOT_READY = (
        "CanaryNotReady",
        "Too few pods of the canary are Ready for its weight; it gets no traffic until they are.",
    )
    CANARY_ENTERING = "CanaryEntering", "The route is being changed and the gateway has not confirmed it yet."
    CANARY_RUNNING = "CanaryRunning", "The canary gets its weight and is compared with the stable."
    AWAITING_EVIDENCE = "AwaitingEvidence", "The hold is over, but the evidence does not carry a verdict yet."
    AWAITING_BASELINE = (
        "AwaitingBaseline",
        "It is being read what the stable shows without a canary; the canary gets no traffic before that is known.",
    )
    BAKING = "Baking", "The canary is proven no worse and waits for the end of rollout.minimumBake."
    INCONCLUSIVE = (
        "Inconclusive",
        "The canary was neither proven nor worse at rollout.deadline; promote, abort, or send it more traffic.",
    )
    HOLDBACK = "Holdback", "The canary has passed; the old stable keeps a little traffic for a while."
    PAUSED = "Paused", "spec.paused freezes the ramp; a rollback still happens."
    PAUSED_BY_STEP = "PausedByStep", "The ramp has reached a pause step."
    PROMOTING = "Promoting", "The canary has passed and takes over all traffic."
    PROMOTED = "Promoted", "The canary has become the stable."
    WITHDRAWING = "Withdrawing", "The spec no longer asks for the canary; it is being withdrawn."
    # Rejections
    VERDICT_FAILED = "VerdictFailed", "The canary was measurably worse than the stable."
    CANARY_CRASHED = "CanaryCrashed", "A pod of the canary crashed repeatedly or ran out of memory."
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The canary's pods ran but were not Ready within rollout.progressDeadline.",
    )
    ABORTED = "Aborted", "A person aborted the canary."
    ROLLED_BACK = "RolledBack", "The revision that the spec asks for was rejected and is not tried again."
    # Waiting for the world
    WAITING_FOR_CAPACITY = "WaitingForCapacity", "The scheduler finds no node for the canary's pods."
    CAPACITY_AVAILABLE = "CapacityAvailable", "No pod waits for a node."
    ROUTE_REFUSED = "RouteRefused", "The gateway refuses the route."
    ROUTE_PENDING = "RoutePending", "The gateway has not confirmed the route yet."
    ROUTE_PROGRAMMED = "RouteProgrammed", "Every parent has accepted the route as it is."
    NO_ROUTE = "NoRoute", "There is no route yet; it is made when the first revision is Ready."
    METRICS_UNAVAILABLE = "MetricsUnavailable", "The metric source does not answer; nothing is promoted blind."
    METRICS_AVAILABLE = "MetricsAvailable", "Current counts of both sides are there."
    BLIND = (
        "Blind",
        "Evidence could not be read for longer than analysis.blindTimeout; the canary gets no traffic until it can.",
    )
    NO_CANARY = "NoCanary", "No canary runs, so no evidence is read."
    NO_TRAFFIC = "NoTraffic", "The canary has a weight but no request has reached it."
    REQUESTS_MISSING = (
        "RequestsMissing",
        "Requests of the canary did not arrive at its pods, or have not ended; its weight does not grow meanwhile.",
    )
    # The spec
    ACCEPTED = "Accepted", "The spec can be carried out."
    PROMPT_NOT_SERVED = (
        "PromptNotServed",
        "The prompt is recorded, but this version of Serin does not serve prompts yet; no pod and no traffic moves.",
    )
    PROMPT_NOT_FOUND = "PromptNotFound", "The spec names a PromptVersion that does not exist."
    PROMPT_SOURCE_MISSING = "PromptSourceMissing", "The PromptVersion was deleted; its recorded copy stays in use."
    CHILD_REFUSED = "ChildRefused", "The API server refuses an object that the spec asks for."
    STABLE_RECORD_MISSING = "StableRecordMissing", "The route serves a revision whose ControllerRevision is gone."
    RECORD_UNREADABLE = "RecordUnreadable", "A ControllerRevision of the deployment cannot be read; nothing is touched."
    INVALID_SPEC = "InvalidSpec", "The spec cannot be carried out as written."
    # Commands
    COMMAND_DONE = "CommandDone", "A person's command was carried out."
    COMMAND_IGNORED = "CommandIgnored", "A person's command was not carried out; the message says why."


def read_reason(text: str) -> Reason:
    """The reason of this name; RolledBack for one that only another version of Serin knows."""
    return next((reason for reason in Reason if reason == text), Reason.ROLLED_BACK)
