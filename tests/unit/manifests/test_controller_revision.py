"""Conversion of a record to a ControllerRevision and back."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.nested import MOST, nested
from serin.errors import RecordError
from serin.manifests.controller_revision import MAX_RECORD_LEVELS, read_record, render_record
from serin.rollout.record import Record, Rejection
from serin.rollout.trial import Step, Trial
from tests.unit.manifests.samples import NOON, OWNER, make_record, make_resolved


def through_json(obj: dict[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(obj))
    return read


def test_full_record_survives_render_and_read() -> None:
    assert read_record(through_json(render_record(OWNER, make_record()))) == make_record()


def test_new_record_has_no_annotations() -> None:
    record = Record(resolved=make_resolved(), number=1)
    obj = render_record(OWNER, record)

    assert "annotations" not in obj["metadata"]
    assert read_record(through_json(obj)) == record


def test_read_record_is_marked_as_recorded() -> None:
    obj = render_record(OWNER, replace(make_record(), recorded=False))

    assert read_record(obj).recorded


def test_controller_revision_has_revision_name_and_number() -> None:
    obj = render_record(OWNER, make_record())

    assert obj["metadata"]["name"] == "triage-abcdef0123"
    assert obj["revision"] == 3
    assert obj["metadata"]["labels"]["serin.dev/revision"] == "abcdef0123"
    assert obj["metadata"]["labels"]["serin.dev/engine-revision"] == "0123456789"


def test_outcome_changes_annotations_but_not_data() -> None:
    """The API server rejects any change of `data`."""
    record = make_record()
    bare = Record(resolved=record.resolved, number=record.number)

    assert render_record(OWNER, record)["data"] == render_record(OWNER, bare)["data"]


times = st.timedeltas(min_value=timedelta(), max_value=timedelta(days=9999)).map(lambda span: NOON + span)
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
trials = st.builds(
    Trial,
    attempt=st.integers(1, 9),
    against=st.text("0123456789abcdef", min_size=10, max_size=10),
    steps=st.lists(
        st.builds(
            Step,
            weight=st.none() | st.integers(1, 10_000),
            hold=st.none() | st.timedeltas(min_value=timedelta(), max_value=timedelta(days=9)),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    started_at=times,
    step=st.integers(0, 4),
    step_entered_at=st.none() | times,
    held_before=st.timedeltas(min_value=timedelta(), max_value=timedelta(days=9)),
    clock_started_at=st.none() | times,
    traffic_since=st.none() | times,
)


@given(
    number=st.integers(1, 2**31),
    promotion=st.none() | st.integers(1, 2**31),
    rejection=st.none() | st.builds(Rejection, reason=text, message=text, at=times),
    trial=st.none() | trials,
    handled=st.lists(text, max_size=3).map(tuple),
)
def test_any_record_survives_render_and_read(
    number: int,
    promotion: int | None,
    rejection: Rejection | None,
    trial: Trial | None,
    handled: tuple[str, ...],
) -> None:
    record = Record(make_resolved(), number, promotion=promotion, rejection=rejection, trial=trial, handled=handled)

    assert read_record(through_json(render_record(OWNER, record))) == record


def test_record_of_a_newer_serin_is_an_error() -> None:
    obj = render_record(OWNER, make_record())
    obj["data"]["hashSchema"] = 99

    with pytest.raises(RecordError, match=r"triage-abcdef0123 was written by a newer Serin .* upgrade the operator"):
        read_record(obj)


@pytest.mark.parametrize(
    "damage",
    [
        lambda obj: obj.pop("data"),
        lambda obj: obj.update(data=None),
        lambda obj: obj.update(data="text"),
        lambda obj: obj["data"].pop("podTemplate"),
        lambda obj: obj["data"].update(podTemplate="text"),
        lambda obj: obj["data"].update(model=None),
        lambda obj: obj["data"].update(prompt="text"),
        lambda obj: obj["data"].update(hashSchema="one"),
        lambda obj: obj["data"].update(podTemplate=nested(MAX_RECORD_LEVELS)),
        lambda obj: obj["data"].update(podTemplate=nested(MOST)),
        lambda obj: obj["data"].update(other=nested(MOST)),
        lambda obj: obj.pop("revision"),
    ],
)
def test_damaged_record_is_an_error_with_its_name(damage: Any) -> None:
    obj = copy.deepcopy(render_record(OWNER, make_record()))
    damage(obj)

    with pytest.raises(RecordError, match="ControllerRevision triage-abcdef0123"):
        read_record(obj)


def test_a_deep_prompt_that_an_earlier_serin_recorded_is_read() -> None:
    obj = copy.deepcopy(render_record(OWNER, make_record()))
    obj["data"]["prompt"] = {"name": "triage-1", "hash": "abc", "content": {"outputSchema": nested(250)}}
    assert read_record(obj).resolved.prompt_content == {"outputSchema": nested(250)}


DEEP_TEXT = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", ["{}", "[", "null", '"text"', '{"reason":"VerdictFailed"}', DEEP_TEXT])
def test_a_damaged_rejection_still_says_that_it_was_rejected(text: str) -> None:
    obj = copy.deepcopy(render_record(OWNER, make_record()))
    obj["metadata"] |= {"creationTimestamp": "2026-05-04T12:00:00Z"}
    obj["metadata"]["annotations"]["serin.dev/rejection"] = text
    rejection = read_record(obj).rejection
    assert rejection is not None
    assert text[:200] in rejection.message


@pytest.mark.parametrize("text", ["{}", "[", "null", '"text"', '{"steps":[]}', DEEP_TEXT, f'{{"steps":{DEEP_TEXT}}}'])
def test_a_damaged_trial_or_token_list_is_none(text: str) -> None:
    obj = copy.deepcopy(render_record(OWNER, make_record()))
    obj["metadata"]["annotations"] |= {"serin.dev/trial": text, "serin.dev/handled": text}
    record = read_record(obj)
    assert (record.trial, record.handled) == (None, ())


def test_times_keep_their_zone() -> None:
    record = read_record(through_json(render_record(OWNER, make_record())))

    assert record.rejection is not None
    assert record.rejection.at == NOON
    assert record.rejection.at.utcoffset() == timedelta()
