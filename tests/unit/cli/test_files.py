"""Files and folders of manifests: what is read, and that hostile ones end with one sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from serin.cli.prompt import files
from serin.cli.prompt.files import is_file_reference, load_json, load_yaml, read_documents
from serin.errors import InputError
from tests.unit.cli.samples import make_prompt, make_user

BOMB = "".join(f"a{n}: &a{n} [{', '.join(f'*a{n - 1}' for _ in range(9))}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("reference", "is_file"),
    [("triage", False), ("triage-1.4.0", False), ("triage@1.4.0", False), ("-", True), ("./x", True), ("x.yaml", True)],
)
def test_file_reference(reference: str, *, is_file: bool) -> None:
    assert is_file_reference(reference) is is_file


def test_folder_is_read_with_its_folders_and_sorted(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "one.json").write_text(json.dumps(make_prompt("1.0.0")))
    (tmp_path / "two.yml").write_text(yaml.dump_all([make_prompt("2.0.0"), make_user("web", "triage-2.0.0")]))
    (tmp_path / ".git" / "hidden.yaml").write_text(yaml.dump(make_prompt("3.0.0")))
    (tmp_path / "notes.txt").write_text("kind: PromptVersion")
    (tmp_path / "template.yaml").write_text("{{- if .Values.a }}\nkind: Deployment\n{{ end }}\n")
    found = read_documents(str(tmp_path))

    assert [(d.manifest["metadata"]["name"], Path(d.origin).name) for d in found] == [
        ("triage-2.0.0", "two.yml#1"),
        ("web", "two.yml#2"),
        ("triage-1.0.0", "one.json"),
    ]


@pytest.mark.parametrize("kind", ["List", "PromptVersionList"])
def test_list_is_read_item_by_item(tmp_path: Path, kind: str) -> None:
    version = "v1" if kind == "List" else "serin.dev/v1alpha1"
    items = [make_prompt("1.0.0"), make_prompt("2.0.0")]
    if kind != "List":
        items = [{key: value for key, value in item.items() if key not in {"apiVersion", "kind"}} for item in items]
    path = tmp_path / "list.yaml"
    path.write_text(yaml.dump({"apiVersion": version, "kind": kind, "items": items}))

    assert [d.manifest for d in read_documents(str(path))] == [make_prompt("1.0.0"), make_prompt("2.0.0")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2", "x, line 2: the key a appears twice; correct it."),
        ("1: 2", "x, line 1: a key is not a string, quote it; correct it."),
        ("[a]: 2", "x, line 1: a key is not a string, quote it; correct it."),
        ("a: &x 1\nb: *x", "x, line 2: aliases are refused, write the value out; correct it."),
        (BOMB, "x, line 1: aliases are refused, write the value out; correct it."),
        ("<<: {a: 1}", None),
        ("a: !!python/object/apply:os.system [ls]", "x, line 1: could not determine a constructor for the tag "),
        ("a: {", "x, line 1: expected the node content, but found '<stream end>'; correct it."),
        ("[" * 50_000, "x is nested too deeply; flatten it."),
        ("a: \x00", "x: special characters are not allowed; correct it."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_yaml_is_refused_with_a_sentence(text: str, sentence: str | None) -> None:
    began = time.monotonic()
    if sentence is None:
        assert load_yaml("x", text) == [{"<<": {"a": 1}}]
        return
    with pytest.raises(InputError) as error:
        load_yaml("x", text)

    assert str(error.value).startswith(sentence.removesuffix("; correct it."))
    assert time.monotonic() - began < 20


def test_dates_and_versions_stay_texts() -> None:
    assert load_yaml("x", "a: 2026-11-30\nb: 1.4.0") == [{"a": "2026-11-30", "b": "1.4.0"}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1, "a": 2}', "x: the key a appears twice; correct it."),
        ('{"a": NaN}', "x: NaN is not JSON; correct it."),
        ("{", "x, line 1: expecting property name enclosed in double quotes; write valid JSON."),
        ("[" * 100_000, "x is nested too deeply; flatten it."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_hostile_json_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_json("x", text)

    assert str(error.value) == sentence


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2**20)
    monkeypatch.setattr(files, "MAX_FILES", 3)
    large = tmp_path / "large.yaml"
    large.write_text("a" * (2**20 + 1))
    with pytest.raises(InputError, match=r"large.yaml has more than 1 MiB; split it into several files.$"):
        read_documents(str(large))
    for n in range(4):
        (tmp_path / f"{n}.yaml").write_text("")
    with pytest.raises(InputError, match=r" has more than 3 files; name a smaller folder.$"):
        read_documents(str(tmp_path))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml cannot be read \(No such file or directory\); correct the path.$"):
        read_documents(str(tmp_path / "none.yaml"))
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"x.yaml is not UTF-8 \(byte 0\); convert it.$"):
        read_documents(str(tmp_path / "x.yaml"))
