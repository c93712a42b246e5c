"""Order of versions, what a reference names, and who uses a prompt."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.cli.prompt.registry import Registry, registry
from serin.cli.prompt.versions import is_pre_release, precedence
from serin.errors import InputError
from tests.unit.cli.samples import make_prompt, make_user

# From section 11 of Semantic Versioning 2.0.0, and numbers that texts would order otherwise.
ASCENDING = [
    *("0.9.0", "0.10.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
    *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-0", "2.0.0--", "2.0.0", "10.0.0"),
]


def of(*manifests: dict[str, Any]) -> Registry:
    return registry([(manifest, f"file{n}") for n, manifest in enumerate(manifests)], "prompts/")


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(ASCENDING)))
def test_precedence_follows_the_specification(older: str, newer: str) -> None:
    assert precedence(older) < precedence(newer)


def test_build_metadata_has_no_precedence() -> None:
    assert precedence("1.0.0+a") == precedence("1.0.0+b-c.9") == precedence("1.0.0")
    assert not is_pre_release("1.0.0+a-b")
    assert is_pre_release("1.0.0-rc.1+a")


@given(st.permutations(ASCENDING))
def test_list_is_newest_first_in_any_order_of_files(versions: list[str]) -> None:
    found = of(*map(make_prompt, versions))

    assert [prompt.version for prompt in found.prompts] == ASCENDING[::-1]


def test_families_are_listed_one_after_the_other() -> None:
    found = of(make_prompt("1.0.0", family="b"), make_prompt("1.0.0", family="a"), make_prompt("2.0.0", family="b"))

    assert [prompt.reference for prompt in found.prompts] == ["a@1.0.0", "b@2.0.0", "b@1.0.0"]


@pytest.mark.parametrize(
    ("versions", "pre_releases", "latest"),
    [
        (["1.9.0", "1.10.0"], False, "1.10.0"),
        (["1.9.0", "2.0.0-rc.1"], False, "1.9.0"),
        (["1.9.0", "2.0.0-rc.1"], True, "2.0.0-rc.1"),
        (["2.0.0-rc.1", "2.0.0-rc.10"], False, "2.0.0-rc.10"),
    ],
)
def test_latest_version(versions: list[str], *, pre_releases: bool, latest: str) -> None:
    assert of(*map(make_prompt, versions)).latest("triage", pre_releases=pre_releases).version == latest


@pytest.mark.parametrize("reference", ["triage-1.4.0", "triage@1.4.0", "triage"])
def test_reference_by_name_version_and_family(reference: str) -> None:
    found = of(make_prompt("1.4.0"), make_prompt("1.3.0"), make_prompt("9.0.0", family="other"))

    assert found.find(reference).name == "triage-1.4.0"


def test_name_wins_over_family() -> None:
    found = of(make_prompt("1.0.0", name="triage"), make_prompt("2.0.0"))

    assert found.find("triage").version == "1.0.0"


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("triage-1.4.1", "There is no PromptVersion triage-1.4.1 in prompts/; nearest: triage-1.4.0, triage@1.4.0."),
        ("x", "There is no PromptVersion x in prompts/; serin prompt list shows what there is."),
    ],
)
def test_unknown_reference_names_the_nearest(reference: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        of(make_prompt("1.4.0")).find(reference)

    assert str(error.value) == sentence


def test_same_version_with_other_content_is_ambiguous_by_version_only() -> None:
    other = make_prompt("1.4.0", name="copy", messages=[{"role": "user", "content": "Hi"}])
    found = of(make_prompt("1.4.0"), other)

    for reference in ("triage@1.4.0", "triage"):
        with pytest.raises(InputError, match=r"^triage@1.4.0 names 2 PromptVersions with different content: copy \("):
            found.find(reference)
    assert found.find("copy").content_hash != found.find("triage-1.4.0").content_hash


def test_same_version_with_same_content_is_one_prompt() -> None:
    assert of(make_prompt("1.4.0"), make_prompt("1.4.0", name="copy")).find("triage@1.4.0").name == "copy"


def test_users_come_from_deployments_and_from_the_status() -> None:
    stored = {**make_prompt("1.4.0"), "status": {"usedBy": ["web"]}}
    found = of(stored, make_user("chat", "triage-1.4.0"), make_user("web", "triage-1.4.0"), make_user("x", "other"))

    assert found.find("triage").users == ("chat", "web")


def test_invalid_prompt_is_a_problem_and_no_prompt() -> None:
    found = of(make_prompt("1.4"), make_prompt("1.4.0"))

    assert [prompt.version for prompt in found.prompts] == ["1.4.0"]
    (problem,) = found.problems
    assert problem.startswith("triage-1.4 (file0) is invalid: spec.version: Write a semantic version such as 1.4.0 or ")


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"kind": "PromptVersion"},
        {"apiVersion": "serin.dev/v1alpha1", "kind": "PromptVersion"},
        {"apiVersion": "serin.dev/v1alpha1", "kind": "PromptVersion", "metadata": [], "spec": "x", "status": 1},
        {"apiVersion": "serin.dev/v1alpha1", "kind": "LLMDeployment", "metadata": None, "spec": {"prompt": "x"}},
        {"apiVersion": ["x"], "kind": {}},
        {**make_prompt(), "status": {"usedBy": [{"a": 1}, None]}},
    ],
)
def test_hostile_manifest_raises_nothing(manifest: dict[str, Any]) -> None:
    found = of(manifest)

    assert len(found.prompts) + len(found.problems) <= 1
