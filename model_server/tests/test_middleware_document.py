"""Which split documents are used, and that a hostile one costs little and raises only DocumentRefused."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server.serin_model_server.document import (
    MAX_BYTES,
    METRICS,
    DocumentRefused,
    Measure,
    parse,
)
from model_server.tests.split_documents import CANARY, MEASURE, STABLE, TOKEN, document, raw, shared

TWO = [{"revision": STABLE, "weight": 9_500}, {"revision": CANARY, "weight": 500}]


def test_document_in_which_the_gateway_splits() -> None:
    found = parse(raw(measure=MEASURE, reveal=True))

    assert (found.epoch, found.revisions, found.sequence, found.token, found.reveal) == (
        None,
        (STABLE,),
        71,
        TOKEN.encode(),
        True,
    )
    assert found.digest == document(measure=MEASURE, reveal=True)["sha256"][:12]
    assert found.measure == Measure({"ttft": (0.21, 0.35, 0.8)}, load_from=1.0, load_ratio=1.3)


def test_document_in_which_the_pod_splits() -> None:
    found = parse(shared(500, epoch=7))

    assert (found.epoch, found.revisions, found.canary_weight, found.measure) == ("7", (STABLE, CANARY), 500, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"epoch": 31},
        {"sequence": 0},
        {"salt": ""},
        {"reveal": ...},
        {"measure": None},
        {"measure": {"load": {"from": 1, "ratio": 10}, "boundaries": {}}},
        {"measure": {"load": {"from": 1, "ratio": 2}, "boundaries": {metric: [0.1] * 6 for metric in METRICS}}},
        {"later": {"key": [1, "ü", None, 0.1, 1e100]}},
        {"epoch": 3, "revisions": [TWO[0] | {"weight": 0}, TWO[1] | {"weight": 10_000}]},
    ],
    ids=str,
)
def test_other_good_documents(changes: dict[str, Any]) -> None:
    assert parse(raw(**changes)).digest == document(**changes)["sha256"][:12]


@pytest.mark.parametrize(
    ("load", "bucket"),
    [(0, 0), (0.99, 0), (1, 1), (1.29, 1), (1.3, 2), (1.3**2, 3), (1.3**17, 18), (1.3**18, 19), (1e300, 19)],
)
def test_load_bucket(load: float, bucket: int) -> None:
    assert Measure({}, load_from=1.0, load_ratio=1.3).bucket(load) == bucket


@given(
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.floats(min_value=1, max_value=10, exclude_min=True),
    st.floats(min_value=0, allow_infinity=False),
)
def test_any_load_has_one_of_twenty_buckets(start: float, ratio: float, load: float) -> None:
    measure = parse(raw(measure={"load": {"from": start, "ratio": ratio}, "boundaries": {}})).measure
    assert measure is not None
    assert 0 <= measure.bucket(load) <= 19


def test_hash_does_not_depend_on_how_the_document_is_written() -> None:
    content = document(measure=MEASURE, note="Größe")
    pretty = json.dumps(dict(reversed(content.items())), indent=2, ensure_ascii=True)
    plain = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    assert parse(pretty.encode()) == parse(plain.encode())


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "spaces": b" " * 1000,
    "two-mebibytes": b" " * (2 * MAX_BYTES),
    "cut-off": raw()[:-20],
    "not-utf-8": b"\xff\xfe" + raw(),
    "utf-16": raw().decode().encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + raw(),
    "array": b"[1]",
    "text": b'"split"',
    "null": b"null",
    "deep": b"[" * 1_000_000,
    "deep-inside": raw(deep=None).replace(b"null", b"[" * 400 + b"]" * 400),
    "many-arrays": raw(many=[[]] * 250_000),
    "many-numbers": raw(many=[0.5] * 190_000),
    "long-number": b'{"schema":' + b"1" * 900_000 + b"}",
    "unterminated-text": b"[[" * 20 + b'"' + b'\\"' * 400_000,
    "nan": raw(later=0).replace(b'"later": 0', b'"later": NaN'),
    "infinity": raw(later=0).replace(b'"later": 0', b'"later": -Infinity'),
    "huge-number": raw(later=0).replace(b'"later": 0', b'"later": 1e999'),
    "half-a-surrogate-pair": raw(later="\ud800"),
    "key-twice": raw().replace(b'"schema": 1', b'"schema": 1, "schema": 1'),
    "changed-afterwards": raw().replace(b'"sequence": 71', b'"sequence": 72'),
    "no-hash": raw(sha256=...),
    "hash-of-another": raw(sha256="0" * 64),
    "hash-in-capitals": raw(sha256=document()["sha256"].upper()),
    "hash-as-number": raw(sha256=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_quickly(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(DocumentRefused) as refused:
        parse(HOSTILE[name])

    # Ten times what it takes: the limit finds what grows with the square of the size.
    assert time.thread_time() - began < 1
    assert str(refused.value).startswith(("it ", "its ", "a ", "the "))
    assert len(str(refused.value)) < 200


YES: Any = True
"""For JSON not a number, for Python one."""


def each(key: str, *values: Any) -> list[dict[str, Any]]:
    return [{key: value} for value in values]


def load(start: Any, ratio: Any) -> dict[str, Any]:
    return MEASURE | {"load": {"from": start, "ratio": ratio}}


def weighing(*weights: Any) -> list[dict[str, Any]]:
    return [{"revision": name, "weight": weight} for name, weight in zip((STABLE, CANARY), weights, strict=False)]


def named(*names: Any) -> list[dict[str, Any]]:
    return [{"revision": name, "weight": 10_000 // len(names)} for name in names]


@pytest.mark.parametrize(
    "changes",
    [
        *each("schema", ..., None, 0, 2, YES, 1.0, "1", [1]),
        *each("sequence", ..., None, -1, 0.5, "71", YES),
        *each("epoch", ..., -1, 32, 7.0, "7", YES, []),
        *each("token", ..., None, "", "0123456789ABCDEF", TOKEN + "0", TOKEN + "\n", 16),
        *each("salt", ..., None, 5, "x" * 65, []),
        *each("reveal", None, 0, 1, "true"),
        *each("revisions", ..., None, [], {}, "x", [None], [[]], [{}], [STABLE]),
        *each("revisions", *map(named, (None, 1, "", "none", "88E4B76379", STABLE + "\n", "ü" * 10))),
        {"revisions": TWO},
        *(
            {"epoch": 1, "revisions": revisions}
            for revisions in (
                named(STABLE, STABLE),
                [*TWO, {"revision": "0" * 10, "weight": 0}],
                weighing(9_500),
                weighing(10_500, -500),
                *(weighing(9_500, weight) for weight in (None, "500", 499, 501, 500.0, -500, math.pi, True)),
            )
        ),
        *each("measure", 0, [], "x", {}, {"load": {}, "boundaries": {}}, MEASURE | {"load": None}),
        *each("measure", *(load(start, 2) for start in (0, -1, None, "1", True, 10**400))),
        *each("measure", *(load(1, ratio) for ratio in (1, 0.5, 10.5, -2, None, True))),
        *each("measure", *(MEASURE | {"boundaries": found} for found in (None, [0.1], {"another": [0.1]}, {"": [1]}))),
        *each(
            "measure",
            *(
                MEASURE | {"boundaries": {"ttft": seconds}}
                for seconds in ([], 0.1, [0.1] * 7, [0.0], [-1], [None], [True], [10**400])
            ),
        ),
    ],
    ids=str,
)
def test_wrong_content_with_a_right_hash_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentRefused):
        parse(raw(**changes))


def test_texts_with_brackets_and_commas_are_not_structure() -> None:
    assert parse(raw(prompt='[{,"\\' * 50_000)).revisions == (STABLE,)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_document_or_a_refusal(found: bytes) -> None:
    with pytest.raises(DocumentRefused):
        parse(found)


@given(
    st.dictionaries(
        st.sampled_from([*document(), "measure", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_any_values_give_a_document_or_a_refusal(changes: dict[str, Any]) -> None:
    try:
        found = parse(raw(**changes))
    except DocumentRefused:
        return
    assert found.revisions == (STABLE,)
    assert found.epoch is None or 0 <= int(found.epoch) < 32
