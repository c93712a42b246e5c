"""What can be said of a PromptVersion by itself: its identity, whether it holds together, and who uses it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from serin.api.content_hash import content_hash
from serin.api.status import MAX_USED_BY, Condition, PromptVersionStatus
from serin.rollout.reasons import Reason

if TYPE_CHECKING:
    from serin.api.promptversion import PromptVersionSpec

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def undeclared_variables(spec: PromptVersionSpec) -> tuple[str, ...]:
    """Placeholders of the messages that `variables` does not declare, sorted; too costly a rule for the CRD's CEL."""
    used = {name for message in spec.messages for name in _PLACEHOLDER.findall(message.content)}
    return tuple(sorted(used - {variable.name for variable in spec.variables}))


def undeclared_message(names: Sequence[str]) -> str:
    """One sentence about undeclared placeholders."""
    told = ", ".join(f"{{{{ {name} }}}}" for name in names)
    return f"The messages use {told} without declaring it; add it to spec.variables of a new PromptVersion."


def prompt_status(
    spec: PromptVersionSpec, generation: int, used_by: Sequence[str], now: datetime, before: PromptVersionStatus
) -> PromptVersionStatus:
    """The status of a PromptVersion; `used_by` names the LLMDeployments whose spec refers to it."""
    missing = undeclared_variables(spec)
    accepted = not missing
    status = "True" if accepted else "False"
    old = next((c for c in before.conditions if c.type == "Accepted"), None)
    condition = Condition(
        type="Accepted",
        status="True" if accepted else "False",
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old and old.status == status else now,
        reason=Reason.ACCEPTED if accepted else Reason.UNDECLARED_VARIABLE,
        message="The prompt can be used." if accepted else undeclared_message(missing),
    )
    return PromptVersionStatus(
        observed_generation=generation,
        content_hash=content_hash(spec),
        conditions=(condition,),
        used_by=tuple(sorted(used_by)[:MAX_USED_BY]),
        used_by_count=len(used_by),
    )
