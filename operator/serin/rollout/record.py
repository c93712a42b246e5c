"""A revision as it is stored: fully resolved, with the outcome of its trials.

Kept in a ControllerRevision: the resolved part in its `data` (never changed), the outcome in annotations. This module
knows neither; `serin.manifests.controller_revision` writes and reads the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serin.api.names import CONTAINER, MIDDLEWARE_ARG, PROMPTS_VARIABLE, SPLIT_DIRECTORY, SPLIT_VARIABLE
from serin.rollout.trial import Trial


@dataclass(frozen=True)
class Resolved:
    """Everything that a revision's children are made from, so that the spec is resolved only once."""

    revision: str
    engine_revision: str
    model_name: str
    model_source: str
    image: str
    pod_template: Mapping[str, Any]
    """The whole pod template of the engine revision, as the Deployment gets it."""
    prompt_name: str | None = None
    prompt_hash: str | None = None
    prompt_content: Mapping[str, Any] | None = None
    """A copy of the PromptVersion's spec, so that the PromptVersion may be deleted."""
    hash_schema: int = 1
    """Version of the rules that made the two hashes."""

    @property
    def measures(self) -> bool:
        """Whether the pods carry Serin's middleware, which counts requests by revision and epoch."""
        return MIDDLEWARE_ARG in (self._engine.get("args") or ())

    @property
    def reads_split(self) -> bool:
        """Whether the pods read their revision from a split document; pods of Serin 0.1 read it from a header."""
        mounts = self._engine.get("volumeMounts") or ()
        return SPLIT_VARIABLE in self._variables and any(m.get("mountPath") == SPLIT_DIRECTORY for m in mounts)

    @property
    def counts_by_load(self) -> bool:
        """Whether the pods count latencies by load, as their split document asks the middleware to."""
        return self.measures and self.reads_split

    @property
    def serves_prompts(self) -> bool:
        """Whether the pods apply the prompt of the revision that their split document chooses."""
        return self.reads_split and PROMPTS_VARIABLE in self._variables

    @property
    def output_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the answers, if the pods apply a prompt that has one."""
        return (self.prompt_content or {}).get("outputSchema") if self.serves_prompts else None

    @property
    def backend(self) -> str:
        """The end of the name of the Service that the route sends this revision's requests to.

        Pods that read a split document know their revision, so all revisions of an engine share its Service. Other
        pods learn it from a header that the route sets for each backend, so each revision has its own.
        """
        return self.engine_revision if self.reads_split else self.revision

    @property
    def _engine(self) -> Mapping[str, Any]:
        containers = (self.pod_template.get("spec") or {}).get("containers") or ()
        return next((c for c in containers if c.get("name") == CONTAINER), {})

    @property
    def _variables(self) -> set[str]:
        return {str(entry.get("name")) for entry in self._engine.get("env") or ()}


@dataclass(frozen=True)
class Rejection:
    """Why a revision was rolled back; it is not tried again until a person commands retry."""

    reason: str
    message: str
    at: datetime
    log: tuple[str, ...] = ()
    """The last lines of the log of the pod that failed; its pods are deleted with their logs."""


@dataclass(frozen=True)
class Record:
    """A revision and its history."""

    resolved: Resolved
    number: int
    """Number of the record, 1 is the oldest."""
    recorded: bool = True
    """False while the ControllerRevision has still to be written."""
    promotion: int | None = None
    """Number of the promotion; the revision with the highest is the stable. None: never promoted."""
    rejection: Rejection | None = None
    trial: Trial | None = None
    handled: tuple[str, ...] = ()
    """Commands handled for this revision, newest last: `promote#token`, or the token alone as Serin 0.1 wrote it."""

    @property
    def revision(self) -> str:
        """Hash that names this revision."""
        return self.resolved.revision

    @property
    def engine_revision(self) -> str:
        """Hash that names its pods."""
        return self.resolved.engine_revision
