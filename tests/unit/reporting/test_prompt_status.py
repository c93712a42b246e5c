"""The status of a PromptVersion that parses and cannot be hashed."""

from __future__ import annotations

from datetime import UTC, datetime

from serin.api.parse import parse_promptversion
from serin.api.status import PromptVersionStatus
from serin.reporting.prompt_status import prompt_status
from tests.integration.manifests import PROMPTVERSION, changed

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_prompt_without_a_hash_is_not_accepted() -> None:
    spec = parse_promptversion(changed(PROMPTVERSION, "spec.outputSchema", {"maximum": 2**60}))
    status = prompt_status(spec, generation=1, used_by=["triage"], now=NOON, before=PromptVersionStatus())
    condition = status.conditions[0]
    assert (condition.status, condition.reason, status.content_hash) == ("False", "InvalidSpec", None)
    assert "keep whole numbers within 53 bits" in condition.message
