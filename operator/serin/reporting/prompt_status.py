"""The status of a PromptVersion: content hash, condition Accepted, and the LLMDeployments that use it.

Called by `serin.prompt_reconciler`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from serin.api.content_hash import content_hash
from serin.api.status import MAX_USED_BY, Condition, PromptVersionStatus
from serin.errors import SpecError
from serin.rollout.reasons import Reason

if TYPE_CHECKING:
    from serin.api.promptversion import PromptVersionSpec


def prompt_status(
    spec: PromptVersionSpec | str,
    *,
    generation: int,
    used_by: Sequence[str],
    now: datetime,
    before: PromptVersionStatus,
) -> PromptVersionStatus:
    """The new status.

    Args:
        spec: the parsed prompt, or the message of the error if it is invalid.
        generation: of the PromptVersion.
        used_by: names of the LLMDeployments whose spec refers to it.
        now: the transition time of a condition that changes.
        before: the status so far.
    """
    old = next((c for c in before.conditions if c.type == "Accepted"), None)
    hashed, refusal = _hash_of(spec)
    status = "False" if refusal else "True"
    condition = Condition(
        type="Accepted",
        status=status,
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old and old.status == status else now,
        reason=Reason.INVALID_SPEC if refusal else Reason.ACCEPTED,
        message=refusal or "The prompt is valid; LLMDeployments can use it.",
    )
    return PromptVersionStatus(
        observed_generation=generation,
        content_hash=hashed,
        conditions=(condition,),
        used_by=tuple(sorted(used_by)[:MAX_USED_BY]),
        used_by_count=len(used_by),
    )


def _hash_of(spec: PromptVersionSpec | str) -> tuple[str | None, str | None]:
    """The content hash, or the message that says why there is none."""
    if isinstance(spec, str):
        return None, spec
    try:
        return content_hash(spec), None
    except SpecError as error:
        return None, str(error)
