"""The split document and its ConfigMap, and how pods mount it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.nested import nested
from serin.api.nesting import MAX_LEVELS
from serin.errors import Invalid, RecordError, SpecError
from serin.manifests.children import deployment
from serin.manifests.owner import Owner
from serin.manifests.split_document import (
    SplitDocument,
    engine_of_split,
    parse_document,
    read_split,
    refuse_if_too_large,
    render_split,
    split_name,
    token_of,
)
from tests.unit.manifests.samples import (
    ENGINE_REVISION,
    OWNER,
    REVISION,
    WITH_MODEL_SERVER,
    engine_of,
    make_document,
    make_resolved,
    make_spec,
    make_template,
)

OTHER = "1111111111"
MEASURE = {"load": {"from": 1.0, "ratio": 1.3}, "boundaries": {"ttft": [0.21, 0.35, 0.8]}}
TWO = make_document(shares=((REVISION, 9_500), (OTHER, 500)), salt=OTHER, epoch=7, measure=MEASURE, reveal=True)


def test_document_is_the_json_that_pods_read() -> None:
    assert json.loads(TWO.to_json()) == {
        "schema": 1,
        "sequence": 71,
        "epoch": 7,
        "salt": OTHER,
        "token": token_of(OWNER),
        "revisions": [{"revision": REVISION, "weight": 9_500}, {"revision": OTHER, "weight": 500}],
        "reveal": True,
        "measure": MEASURE,
        "sha256": json.loads(TWO.to_json())["sha256"],
    }
    assert json.loads(make_document().to_json())["epoch"] is None
    assert not {"measure", "checks"} & json.loads(make_document().to_json()).keys()


PROMPT = {"version": "1.0.0", "hash": "0" * 12, "messages": [{"role": "system", "content": "Triage, naïvely."}]}
PROMPTED = make_document(
    shares=TWO.shares, salt=OTHER, epoch=7, prompts={REVISION: {"triage": PROMPT}, OTHER: {"triage": PROMPT}}
)


def test_revisions_carry_their_prompts() -> None:
    entries = json.loads(PROMPTED.to_json())["revisions"]
    assert [entry["prompts"] for entry in entries] == [{"triage": PROMPT}, {"triage": PROMPT}]
    assert parse_document(PROMPTED.to_json()) == PROMPTED
    one = make_document(prompts={REVISION: {"triage": PROMPT}})
    assert one.digest not in {make_document().digest, PROMPTED.digest}
    assert "prompts" not in make_document(prompts={OTHER: {"triage": PROMPT}}).to_json()


def test_document_of_the_deepest_prompt_is_read() -> None:
    prompt = PROMPT | {"outputSchema": nested(MAX_LEVELS - 1)}
    document = make_document(prompts={REVISION: {"triage": prompt}})
    assert parse_document(document.to_json()) == document
    with pytest.raises(RecordError, match="nested more than 72"):
        parse_document(make_document(prompts={REVISION: {"triage": {"outputSchema": nested(80)}}}).to_json())


@pytest.mark.parametrize("key", [{"header": "x-session-id"}, {"conversation": {}}])
def test_key_and_access_log_stand_beside_the_revisions(key: dict[str, Any]) -> None:
    document = make_document(key=key, access_log=True)
    content = json.loads(document.to_json())
    assert (content["key"], content["accessLog"]) == (key, True)
    assert parse_document(document.to_json()) == document
    assert {"key", "accessLog"}.isdisjoint(json.loads(make_document().to_json()))


def test_hash_covers_the_canonical_document_without_the_hash() -> None:
    content = json.loads(TWO.to_json())
    written = content.pop("sha256")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert written == hashlib.sha256(canonical.encode()).hexdigest()
    assert written.startswith(TWO.digest)
    assert len(TWO.digest) == 12
    assert TWO.to_json() == json.dumps(
        json.loads(TWO.to_json()), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


@given(
    weight=st.integers(0, 10_000),
    sequence=st.integers(0, 2**53),
    epoch=st.none() | st.integers(0, 31),
    measure=st.none() | st.just(MEASURE),
    checks=st.sampled_from([(), ({"name": "empty", "kind": "Empty", "sample": 0.5},)]),
    reveal=st.booleans(),
)
def test_document_is_read_back(
    weight: int, sequence: int, measure: Any, checks: Any, *, epoch: int | None, reveal: bool
) -> None:
    document = SplitDocument(
        sequence=sequence,
        shares=((REVISION, 10_000 - weight), (OTHER, weight)),
        salt=OTHER,
        token="0" * 16,
        epoch=epoch,
        reveal=reveal,
        measure=measure,
        checks=checks,
    )

    assert parse_document(document.to_json()) == document
    assert read_split(render_split(OWNER, ENGINE_REVISION, document)) == document


def edited(**changes: Any) -> str:
    """A document with other fields and a hash that fits."""
    content = json.loads(TWO.to_json()) | changes
    content = {key: value for key, value in content.items() if key != "sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(content | {"sha256": hashlib.sha256(canonical.encode()).hexdigest()})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{",
        TWO.to_json().replace('"weight":500', '"weight":501'),
        edited(schema=2),
        edited(epoch=32),
        edited(epoch=True),
        edited(sequence=-1),
        edited(sequence=1.5),
        edited(revisions=[]),
        edited(revisions=[{"revision": REVISION, "weight": 9_999}]),
        edited(revisions=[{"revision": str(n), "weight": w} for n, w in enumerate((5_000, 3_000, 2_000))]),
        edited(revisions=None),
        edited(revisions=[{"revision": REVISION, "weight": 10_000, "prompts": "all"}]),
        edited(checks=1),
        edited(checks=[1]),
        edited(checks=["empty"]),
        "[" * 100_000,
    ],
    ids=str.__len__,
)
def test_damaged_document_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_document(text)
    assert read_split({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"split.json": text}}) is None


def test_document_with_an_unknown_key_is_read() -> None:
    assert parse_document(edited(later=[])) == TWO


def test_token_is_of_the_uid_alone() -> None:
    assert token_of(OWNER) == token_of(Owner("elsewhere", "other", OWNER.uid))
    assert token_of(OWNER) == hashlib.sha256(f"serin-epoch-token:{OWNER.uid}".encode()).hexdigest()[:16]
    assert token_of(OWNER) != token_of(Owner("default", "triage", "another"))


def test_name_says_the_engine_revision() -> None:
    config_map = render_split(OWNER, ENGINE_REVISION, TWO)

    assert config_map["metadata"]["name"] == f"triage-{ENGINE_REVISION}-split"
    assert engine_of_split("triage", config_map) == ENGINE_REVISION
    assert engine_of_split("other", config_map) is None
    assert engine_of_split("triage", deployment(OWNER, make_resolved(), 1)) is None
    assert len(split_name("x" * 40, ENGINE_REVISION)) <= 63


def test_large_document_is_refused_before_it_is_sent() -> None:
    large = make_document(measure={"boundaries": {"ttft": [1.0] * 300_000}})

    refuse_if_too_large(render_split(OWNER, ENGINE_REVISION, TWO))
    refuse_if_too_large(deployment(OWNER, make_resolved(), 1))
    with pytest.raises(Invalid, match=r"1172 KiB, and at most 900 KiB"):
        refuse_if_too_large(render_split(OWNER, ENGINE_REVISION, large))


# Pods.


def test_pod_mounts_its_document_as_a_directory_and_only_readiness_asks_for_it() -> None:
    template = make_template(defaults=WITH_MODEL_SERVER)
    engine = engine_of(template)
    volume = next(v for v in template["spec"]["volumes"] if v["name"] == "serin-split")

    assert volume == {"name": "serin-split", "configMap": {"name": f"triage-{ENGINE_REVISION}-split"}}
    assert {"name": "serin-split", "mountPath": "/etc/serin/split", "readOnly": True} in engine["volumeMounts"]
    assert {"name": "SERIN_SPLIT", "value": "/etc/serin/split/split.json"} in engine["env"]
    assert {"name": "SERIN_PROMPTS", "value": "1"} in engine["env"]
    probed = {probe: engine[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert probed == {"startupProbe": "/health", "readinessProbe": "/health?split", "livenessProbe": "/health"}
    assert make_resolved(pod_template=template).serves_prompts


def test_pod_without_middleware_reads_no_document() -> None:
    template = make_template()

    assert "split" not in json.dumps(template)
    assert not make_resolved().reads_split


def in_engine(**changes: Any) -> dict[str, Any]:
    return {"containers": [{"name": "engine", **changes}]}


@pytest.mark.parametrize(
    ("overlay", "named"),
    [
        ({"volumes": [{"name": "serin-split", "emptyDir": {}}]}, "the volume serin-split"),
        ({"volumes": None}, "the volume serin-split"),
        (in_engine(volumeMounts=[{"name": "own", "mountPath": "/etc/serin/split"}]), "the mount at /etc/serin/split"),
        (in_engine(volumeMounts=[{"name": "own", "mountPath": "/etc/serin/split/"}]), "the mount at /etc/serin/split"),
        (in_engine(volumeMounts=None), "the mount at /etc/serin/split"),
        (in_engine(env=[{"name": "SERIN_SPLIT", "value": "/own.json"}]), "the variable SERIN_SPLIT"),
        (in_engine(env=None), "the variable SERIN_SPLIT"),
        (in_engine(env=[{"name": "SERIN_PROMPTS", "value": "0"}]), "the variable SERIN_PROMPTS"),
    ],
    ids=["volume", "no-volumes", "mount", "mount-with-slash", "no-mounts", "variable", "no-variables", "prompts"],
)
def test_overlay_that_takes_the_document_away_is_refused(overlay: dict[str, Any], named: str) -> None:
    spec = make_spec(podTemplate={"spec": overlay})

    with pytest.raises(SpecError, match=f"spec.podTemplate changes {named}"):
        make_template(spec, WITH_MODEL_SERVER)
    make_template(spec)


def test_overlay_beside_the_document_is_merged() -> None:
    overlay = in_engine(
        volumeMounts=[{"name": "own", "mountPath": "/etc/own"}], env=[{"name": "OWN", "value": "1"}]
    ) | {"volumes": [{"name": "own", "configMap": {"name": "own"}}]}
    template = make_template(make_spec(podTemplate={"spec": overlay}), WITH_MODEL_SERVER)

    assert make_resolved(pod_template=template).reads_split
    assert {"name": "own", "mountPath": "/etc/own"} in engine_of(template)["volumeMounts"]
