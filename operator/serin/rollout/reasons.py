"""The reasons of conditions, Events, logs and metrics, with one sentence each.

A reason means the same in all four places. `docs/reference/reasons.md` is generated from this enum.
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
    INSTALLING = "Installing", "The first revision is starting; it gets all traffic when its pods are Ready."
    SERVING = "Serving", "The stable carries all traffic."
    SCALING = "Scaling", "The stable has fewer Ready pods than spec.replicas."
    STABLE_UNAVAILABLE = "StableUnavailable", "No pod of the stable is Ready; see its pods and their logs."
    # A canary
    CANARY_LOADING = "CanaryLoading", "The canary's pods are starting; it gets no traffic until they are Ready."
    CANARY_SCALING = "CanaryScaling", "The canary needs more Ready pods before its weight can grow."
    CANARY_NOT_READY = (
        "CanaryNotReady",
        "The canary has too few Ready pods for its weight; Serin lowers the weight to what they can carry.",
    )
    CANARY_ENTERING = "CanaryEntering", "The route is changing; the gateway has not confirmed the canary's weight yet."
    CANARY_RUNNING = "CanaryRunning", "The canary has its weight and is compared with the stable."
    AWAITING_EVIDENCE = "AwaitingEvidence", "The hold has ended, but there is not enough data for a verdict yet."
    AWAITING_BASELINE = (
        "AwaitingBaseline",
        "Measuring the stable's baseline; the canary gets no traffic until that is done.",
    )
    BAKING = "Baking", "The canary has passed and waits until rollout.minimumBake is over."
    INCONCLUSIVE = (
        "Inconclusive",
        "rollout.deadline has passed, but the measurements do not allow a promotion.",
    )
    HOLDBACK = "Holdback", "The ramp has ended; the old stable keeps a small weight until rollout.holdback is over."
    PAUSED = (
        "Paused",
        "spec.paused holds the canary at its weight until it is set to false; Serin still rolls back a bad canary.",
    )
    PAUSED_BY_STEP = "PausedByStep", "The canary is held at a pause step of the ramp."
    PROMOTING = "Promoting", "The canary takes over all traffic; then the old stable drains."
    TAKING_OVER = (
        "TakingOver",
        "No pod of the stable is Ready; the canary gets all traffic when its pods are Ready, as in a first install.",
    )
    TAKEN_OVER = "TakenOver", "The canary has become the stable without proof, because no pod of the old one was Ready."
    PROMOTED = "Promoted", "The canary has become the stable."
    WITHDRAWING = "Withdrawing", "The spec no longer asks for the canary, so Serin withdraws it."
    # Rejections
    VERDICT_FAILED = "VerdictFailed", "Measurements show that the canary is worse than the stable."
    CANARY_CRASHED = "CanaryCrashed", "A pod of the revision crashed repeatedly or ran out of memory."
    PROGRESS_DEADLINE_EXCEEDED = (
        "ProgressDeadlineExceeded",
        "The revision's pods ran but did not become Ready within rollout.progressDeadline.",
    )
    ABORTED = "Aborted", "A person aborted the canary."
    ROLLED_BACK = (
        "RolledBack",
        "The spec asks for a revision that was rejected; Serin does not try it again without a command.",
    )
    # Waiting for the world
    WAITING_FOR_CAPACITY = (
        "WaitingForCapacity",
        "Pods cannot start because no node has room for them or a quota forbids them.",
    )
    CAPACITY_AVAILABLE = "CapacityAvailable", "No pod is waiting for a node."
    ROUTE_REFUSED = "RouteRefused", "A gateway rejects the route, or Serin does not own it."
    ROUTE_PENDING = "RoutePending", "The gateway has not confirmed the route yet."
    ROUTE_PROGRAMMED = "RouteProgrammed", "Every gateway has accepted the route as it is now."
    NO_ROUTE = "NoRoute", "There is no route yet; Serin creates it when the first revision is Ready."
    METRICS_UNAVAILABLE = (
        "MetricsUnavailable",
        "The metric source does not answer; Serin does not promote without metrics.",
    )
    METRICS_AVAILABLE = "MetricsAvailable", "Serin has current counts of the canary and the stable."
    BLIND = (
        "Blind",
        "Metrics were unavailable for longer than analysis.blindTimeout; the canary gets no traffic until they return.",
    )
    NO_CANARY = "NoCanary", "No canary is on trial, so Serin reads no metrics."
    NO_TRAFFIC = "NoTraffic", "The canary has a weight, but none of its requests has been counted."
    REQUESTS_MISSING = (
        "RequestsMissing",
        "Some requests did not arrive at the canary's pods, or have not ended; its weight does not grow meanwhile.",
    )
    SHARE_ABOVE_WEIGHT = (
        "ShareAboveWeight",
        "The canary gets more than twice the requests of its weight, so its weight does not grow.",
    )
    REQUESTS_LOST = (
        "RequestsLost",
        "Requests did not arrive at the canary; it gets no traffic until a person resumes or aborts it.",
    )
    # The split documents in the pods
    SPLIT_IN_FORCE = "SplitInForce", "Every Ready pod uses the current split document of its engine."
    SPLIT_PENDING = "SplitPending", "Some pods still use an earlier split document, or it is not known which one."
    SPLIT_REFUSED = (
        "SplitRefused",
        "A pod refuses its split document, or cannot read it, and uses an earlier one.",
    )
    SPLIT_NOT_WATCHED = (
        "SplitNotWatched",
        "No canary is on trial and no revision leaves, so Serin does not read which split documents the pods use.",
    )
    # The spec
    ACCEPTED = "Accepted", "The spec can be carried out."
    PROMPT_NOT_SERVED = (
        "PromptNotServed",
        "The pods do not apply prompts, so the prompt has no effect until the prompt or the engine changes.",
    )
    PROMPT_NOT_FOUND = "PromptNotFound", "The spec names a PromptVersion that does not exist."
    PROMPT_CONTENT_CHANGED = (
        "PromptContentChanged",
        "The PromptVersion was created again with other content, which is tried like any other prompt.",
    )
    PROMPT_SOURCE_MISSING = "PromptSourceMissing", "The PromptVersion was deleted; Serin uses its recorded copy."
    CHILD_REFUSED = "ChildRefused", "The API server refuses an object that Serin needs to write."
    READ_FAILED = (
        "ReadFailed",
        "The API server does not answer a read; no weight grows and nothing is deleted until it does.",
    )
    STABLE_RECORD_MISSING = (
        "StableRecordMissing",
        "The record of a revision that serves, or its promotion, is missing; Serin only withdraws a bad canary.",
    )
    RECORD_UNREADABLE = (
        "RecordUnreadable",
        "A ControllerRevision of the LLMDeployment cannot be read; Serin goes on without that revision.",
    )
    INVALID_SPEC = "InvalidSpec", "The spec is invalid; the message says what to correct."
    # Commands
    COMMAND_DONE = "CommandDone", "Serin carried out a person's command."
    COMMAND_IGNORED = "CommandIgnored", "Serin did not carry out a person's command; the message says why."


def read_reason(text: str) -> Reason:
    """The reason of this name; RolledBack for one that only another version of Serin knows."""
    return next((reason for reason in Reason if reason == text), Reason.ROLLED_BACK)
