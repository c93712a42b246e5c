"""Resolution of a spec to a record or to a message."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from serin.api.llmdeployment import LLMDeploymentSpec
from serin.manifests.engine_defaults import EngineDefaults
from serin.resolve import Target, resolve
from serin.rollout.reasons import Reason
from serin.rollout.record import Record

SPEC: dict[str, Any] = {
    "model": {"name": "triage", "source": "file:///models/triage"},
    "routing": {"gateway": {"parentRefs": [{"name": "llm"}]}},
}
APPLYING = EngineDefaults(image="vllm:old", model_server_image="serin:new")
"""New pods apply prompts; those of OLD and NEW have no middleware."""
OLD, NEW = EngineDefaults(image="vllm:old"), EngineDefaults(image="vllm:new", leave_seconds=60)


def prompt(text: str = "Triage the ticket.", **more: Any) -> dict[str, Any]:
    return {"spec": {"prompt": "triage", "version": "1.0.0", "messages": [{"role": "system", "content": text}]} | more}


def resolved(
    *records: Record, source: dict[str, Any] | None = None, defaults: EngineDefaults = OLD, **changes: Any
) -> Target:
    return resolve("triage", LLMDeploymentSpec.model_validate(SPEC | changes), source, records, defaults)


def record_of(target: Target) -> Record:
    assert target.record is not None, target.message
    return target.record


def known(**changes: Any) -> Record:
    return replace(record_of(resolved(**changes)), recorded=True)


def test_new_spec_gives_an_unwritten_record() -> None:
    target = resolved()
    made = record_of(target)
    assert (target.reason, target.message) == (Reason.ACCEPTED, None)
    assert (made.number, made.recorded, made.promotion, made.trial) == (1, False, None, None)
    assert made.resolved.image == "vllm:old"
    assert made.resolved.pod_template["spec"]["containers"][0]["image"] == "vllm:old"


def test_recorded_revision_ignores_changed_defaults() -> None:
    old = known()
    assert record_of(resolved(old, defaults=NEW)) is old
    assert record_of(resolved(old, defaults=NEW, replicas=5, paused=True)) is old


def test_new_engine_revision_uses_current_defaults() -> None:
    made = record_of(resolved(known(), defaults=NEW, engine={"args": {"max-model-len": "64"}}))
    assert (made.number, made.resolved.image) == (2, "vllm:new")
    own = record_of(resolved(known(), defaults=NEW, engine={"image": "mine:1"}))
    assert own.resolved.image == "mine:1"


def test_new_prompt_on_same_pods_reuses_their_template() -> None:
    old = known()
    made = record_of(resolved(old, defaults=NEW, prompt={"name": "triage-1"}, source=prompt()))
    assert made.revision != old.revision
    assert (made.engine_revision, made.resolved.pod_template) == (old.engine_revision, old.resolved.pod_template)
    assert made.resolved.image == "vllm:old"


def test_prompt_is_copied_and_identified_by_content() -> None:
    first = record_of(resolved(prompt={"name": "triage-1"}, source=prompt()))
    assert first.resolved.prompt_name == "triage-1"
    assert first.resolved.prompt_content == prompt()["spec"]
    other_name = record_of(resolved(prompt={"name": "copy"}, source=prompt(author="Ana", version="2.0.0")))
    assert other_name.revision == first.revision
    other_text = record_of(resolved(prompt={"name": "triage-1"}, source=prompt("Answer in JSON.")))
    assert other_text.revision != first.revision


def test_unknown_prompt_blocks() -> None:
    target = resolved(known(), prompt={"name": "nowhere"})
    assert (target.record, target.reason) == (None, Reason.PROMPT_NOT_FOUND)
    assert "nowhere" in str(target.message)


def test_deleted_prompt_resolves_to_its_recorded_copy() -> None:
    first = known(prompt={"name": "p"}, source=prompt("one"))
    second = replace(known(prompt={"name": "p"}, source=prompt("two")), number=2)
    target = resolved(first, second, prompt={"name": "p"})
    assert (target.record, target.reason) == (second, Reason.PROMPT_SOURCE_MISSING)
    assert second.revision in str(target.message)
    other_pods = resolved(first, second, prompt={"name": "p"}, engine={"image": "mine:1"})
    assert (other_pods.record, other_pods.reason) == (None, Reason.PROMPT_NOT_FOUND)


@pytest.mark.parametrize(
    ("changes", "source", "says"),
    [
        pytest.param({"prompt": {"name": "p"}}, {"spec": {"prompt": "x"}}, "version", id="a prompt cut short"),
        pytest.param(
            {"podTemplate": {"spec": {"priority": 2**60}}},
            None,
            "write them as strings",
            id="an overlong number",
        ),
        pytest.param(
            {"prompt": {"name": "p"}},
            prompt(outputSchema={"maximum": 2**60}),
            "keep whole numbers within 53 bits",
            id="the same in a prompt",
        ),
    ],
)
def test_unresolvable_spec_gives_a_message_and_no_exception(
    changes: dict[str, Any], source: dict[str, Any] | None, says: str
) -> None:
    target = resolved(source=source, **changes)
    assert (target.record, target.reason) == (None, Reason.INVALID_SPEC)
    assert says in str(target.message)


def test_record_numbers_continue_after_pruning() -> None:
    late = replace(known(), number=41)
    assert record_of(resolved(late, engine={"image": "mine:1"})).number == 42


# Pods that do not apply prompts.

P1, P2 = {"name": "triage-1"}, {"name": "triage-2"}
TWO = prompt("Answer in JSON.")


def test_first_prompt_on_pods_that_do_not_apply_prompts_asks_for_other_pods() -> None:
    stable = replace(known(), promotion=1)
    made = record_of(resolved(stable, defaults=APPLYING, prompt=P1, source=prompt()))
    assert made.engine_revision != stable.engine_revision
    assert (made.resolved.serves_prompts, made.resolved.hash_schema) == (True, 2)
    # Until then, and without a prompt, they stay.
    assert record_of(resolved(stable, defaults=APPLYING)) is stable
    without = record_of(resolved(stable, defaults=NEW, prompt=P1, source=prompt()))
    assert (without.engine_revision, without.resolved.hash_schema) == (stable.engine_revision, 1)


def test_new_pods_apply_prompts_and_are_named_as_before() -> None:
    made = record_of(resolved(defaults=APPLYING, prompt=P1, source=prompt()))
    assert (made.engine_revision, made.resolved.hash_schema) == (known().engine_revision, 1)
    assert made.resolved.serves_prompts
    stable = replace(made, recorded=True, promotion=1)
    other = record_of(resolved(stable, defaults=APPLYING, prompt=P2, source=TWO))
    assert other.engine_revision == stable.engine_revision


def test_pods_of_the_contract_stay_whatever_prompt_is_wanted() -> None:
    older = replace(known(), promotion=1)
    first = replace(record_of(resolved(older, defaults=APPLYING, prompt=P1, source=prompt())), recorded=True)
    for records in [(older, replace(first, promotion=2)), (replace(first, promotion=2),)]:
        for wanted in ({"prompt": P2, "source": TWO}, {}):
            made = record_of(resolved(*records, defaults=APPLYING, **wanted))
            assert (made.engine_revision, made.resolved.hash_schema) == (first.engine_revision, 2)
    # Also on trial, and after the record of the older pods is gone; and without a prompt the stable is wanted.
    assert record_of(resolved(older, first, defaults=APPLYING, prompt=P1, source=prompt())) is first
    elsewhere = replace(known(engine={"image": "mine:1"}), promotion=3)
    assert record_of(resolved(first, elsewhere, defaults=APPLYING, prompt=P1, source=prompt())) is first
    assert record_of(resolved(older, first, defaults=APPLYING)) is older


@pytest.mark.parametrize(
    "facts", [{"promotion": 2}, {}, {"rejection": object()}, {"promotion": 1, "trial": object()}],
    ids=["stable", "recorded only", "rejected", "on trial again"],
)  # fmt: skip
def test_upgrade_asks_for_no_pods_for_a_prompt_that_was_recorded(facts: dict[str, Any]) -> None:
    stable = replace(known(), promotion=1)
    waiting = replace(known(prompt=P1, source=prompt()), number=2, **facts)
    assert record_of(resolved(stable, waiting, defaults=APPLYING, prompt=P1, source=prompt())) is waiting
    assert record_of(resolved(stable, waiting, defaults=APPLYING, prompt=P1)) is waiting
    made = record_of(resolved(stable, waiting, defaults=APPLYING, prompt=P2, source=TWO))
    assert made.resolved.serves_prompts


def test_prompt_that_older_pods_had_before_others_gets_pods_that_apply_it() -> None:
    before = replace(known(prompt=P1, source=prompt()), promotion=1)
    stable = replace(known(engine={"image": "mine:1"}), promotion=2, number=2)
    assert record_of(resolved(before, stable, defaults=APPLYING, prompt=P1, source=prompt())).resolved.serves_prompts


# Rules between a prompt, the spec and the stable.

TOOL = {"type": "function", "function": {"name": "look_up"}}
WITH_TOOLS = {"spec": prompt()["spec"] | {"tools": [TOOL]}}


@pytest.mark.parametrize(
    ("args", "accepted"),
    [
        ({}, False),
        ({"enable-auto-tool-choice": "true"}, False),
        ({"tool-call-parser": "hermes"}, False),
        ({"enable-auto-tool-choice": "false", "tool-call-parser": "hermes"}, False),
        ({"enable-auto-tool-choice": "true", "tool-call-parser": "true"}, False),
        ({"enable-auto-tool-choice": "true", "tool-call-parser": "hermes"}, True),
        ({"enable_auto_tool_choice": "true", "tool_call_parser": "hermes"}, True),
        ({"enable-auto": "true", "tool-call": "hermes"}, True),
    ],
    ids=str,
)
def test_prompt_with_tools_needs_a_parser(args: dict[str, str], *, accepted: bool) -> None:
    target = resolved(prompt=P1, source=WITH_TOOLS, engine={"args": args}, defaults=APPLYING)
    assert (target.record is not None) == accepted
    if not accepted:
        assert target.reason is Reason.INVALID_SPEC
        assert str(target.message).startswith("PromptVersion triage-1: it has tools")
    assert resolved(prompt=P1, source=prompt(), engine={"args": args}, defaults=APPLYING).record


SCHEMA_CHECK: dict[str, Any] = {"name": "schema", "check": {"kind": "Schema"}}
LIMIT: dict[str, Any] = {"name": "slo", "ceiling": {"of": "schema", "rate": 0.05}}


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ([SCHEMA_CHECK], "schema"),
        ([SCHEMA_CHECK | {"mode": "Advisory"}, LIMIT], "slo"),
        ([SCHEMA_CHECK | {"mode": "Advisory"}], None),
        ([{"name": "empty", "check": {"kind": "Empty"}}], None),
    ],
)
def test_required_schema_check_needs_an_output_schema(metrics: list[dict[str, Any]], names: str | None) -> None:
    analysis: dict[str, Any] = {"analysis": {"metrics": [{"name": "errors", "preset": "ErrorRate"}, *metrics]}}
    first = record_of(resolved(defaults=APPLYING, prompt=P1, source=prompt()))
    stable = replace(first, recorded=True, promotion=1)
    refused = resolved(stable, defaults=APPLYING, prompt=P2, source=TWO, **analysis)
    if names is None:
        assert refused.record
        return
    assert (refused.record, refused.reason) == (None, Reason.INVALID_SPEC)
    assert refused.message == (
        f"spec.analysis.metrics: {names} can never pass, because PromptVersion triage-2 has no outputSchema to check "
        "answers by; use a PromptVersion with an outputSchema, or set mode: Advisory."
    )
    with_schema = copy.deepcopy(TWO)
    with_schema["spec"]["outputSchema"] = {"type": "object"}
    assert resolved(stable, defaults=APPLYING, prompt=P2, source=with_schema, **analysis).record
    assert resolved(stable, defaults=APPLYING, prompt=P1, source=prompt(), **analysis).record is stable, "no trial"
    without = resolved(stable, defaults=APPLYING, engine={"image": "mine:1"}, **analysis)
    assert "there is no spec.prompt with an outputSchema" in str(without.message)


def blind(mode: str = "Required", source: str = "Engine", preset: str = "TimeToFirstToken") -> dict[str, Any]:
    metric = {"name": "engine", "preset": preset, "source": source, "mode": mode}
    return {"analysis": {"metrics": [{"name": "errors", "preset": "ErrorRate"}, metric]}}


def test_metric_that_cannot_tell_prompts_apart_refuses_only_their_trial() -> None:
    first = record_of(resolved(defaults=APPLYING, prompt=P1, source=prompt()))
    stable = replace(first, recorded=True, promotion=1)

    def target(analysis: dict[str, Any], *others: Record, source: dict[str, Any] = TWO, **changes: Any) -> Target:
        return resolved(stable, *others, defaults=APPLYING, prompt=P2, source=source, **analysis, **changes)

    refused = target(blind())
    assert (refused.record, refused.reason) == (None, Reason.INVALID_SPEC)
    assert "engine (source Engine) cannot tell two prompts apart" in str(refused.message)
    assert target(blind(source="Gateway", preset="ErrorRate")).record is None
    # Advisory, the stable's own prompt, and other pods are fine, and a running trial keeps what it has pinned.
    assert target(blind("Advisory")).record
    assert target(blind(), source=prompt()).record is stable
    assert target(blind(), engine={"image": "mine:1"}).record
    on_trial = replace(record_of(target({})), recorded=True, trial=object())  # type: ignore[arg-type]
    assert target(blind(), on_trial).record is on_trial


def test_metric_by_engine_stays_where_no_prompt_is_tried() -> None:
    stable = replace(known(), promotion=1)
    assert resolved(stable, defaults=NEW, prompt=P1, source=prompt(), **blind()).record


def test_recreated_prompt_with_other_content_is_tried_and_told() -> None:
    first = record_of(resolved(defaults=APPLYING, prompt=P1, source=prompt()))
    stable = replace(first, recorded=True, promotion=1)
    target = resolved(stable, defaults=APPLYING, prompt=P1, source=TWO)
    assert (record_of(target).engine_revision, target.reason) == (stable.engine_revision, Reason.PROMPT_CONTENT_CHANGED)
    assert target.record is not stable
    for said in (stable.revision, stable.resolved.prompt_hash, record_of(target).resolved.prompt_hash):
        assert str(said) in str(target.message)
    same = resolved(stable, defaults=APPLYING, prompt=P1, source=prompt(author="Ana"))
    assert (same.record, same.reason, same.message) == (stable, Reason.ACCEPTED, None)
    assert resolved(stable, defaults=APPLYING, prompt=P2, source=TWO).reason is Reason.ACCEPTED
