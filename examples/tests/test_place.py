"""The cluster of the demo, read from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.cluster import load_manifest
from examples.demo.errors import DemoError
from examples.demo.manifests import (
    BETTER,
    BETTER_PROMPT,
    FIRST_PROMPT,
    INSTALL,
    TOO_SMALL,
    WRONG_KEYS,
    adapted,
    manifest,
)
from examples.demo.place import NEEDED, Image, Place, read_exports, sandbox_place, users_cluster
from examples.demo.prepare import operator_values
from serin.api.llmdeployment import LLMDeploymentSpec
from serin.rollout.revision import engine_revision

DIGEST = f"sha256:{'0a' * 32}"
OWN = {
    "KUBECONFIG": "/elsewhere/config",
    "PROMETHEUS_URL": "http://prometheus:9090/",
    "GATEWAY_URL": "http://gateway/",
    "DEMO_GATEWAY": "infra/public",
    "DEMO_OPERATOR_IMAGE": "example.com/serin:1",
    "DEMO_MODEL": "hf://org/model@1111111",
    "DEMO_BETTER_MODEL": "hf://org/model@2222222",
}


def test_sandbox_is_used_without_kubeconfig() -> None:
    assert users_cluster({}) is None


def test_kubeconfig_of_sandbox_is_not_a_users_cluster(tmp_path: Path) -> None:
    here = {"SERIN_SANDBOX_DIR": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    assert users_cluster(here) is None


@pytest.mark.parametrize("name", NEEDED)
def test_missing_variable_of_users_cluster_is_named(name: str) -> None:
    with pytest.raises(DemoError, match=name):
        users_cluster({key: value for key, value in OWN.items() if key != name})


@pytest.mark.parametrize("written", ["llm", "/llm", "gateway/"])
def test_gateway_without_namespace_or_name_is_rejected(written: str) -> None:
    with pytest.raises(DemoError, match="namespace/name"):
        users_cluster(OWN | {"DEMO_GATEWAY": written})


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        pytest.param("serin:1", ("serin", "1", ""), id="tag"),
        pytest.param("example.com/team/serin:1", ("example.com/team/serin", "1", ""), id="registry"),
        pytest.param("localhost:5000/serin:1", ("localhost:5000/serin", "1", ""), id="registry-with-port"),
        pytest.param(f"localhost:5000/serin@{DIGEST}", ("localhost:5000/serin", "", DIGEST), id="digest"),
        pytest.param(f"example.com/serin:1@{DIGEST}", ("example.com/serin", "1", DIGEST), id="tag-and-digest"),
    ],
)
def test_image_is_split_into_chart_values(reference: str, parts: tuple[str, str, str]) -> None:
    repository, tag, digest = parts
    place = users_cluster(OWN | {"DEMO_OPERATOR_IMAGE": reference})
    assert place
    assert place.operator_image == Image(repository, tag, digest)
    values = operator_values(place.operator_image, place)
    assert (values["image.repository"], values["image.tag"], values["image.digest"]) == parts
    assert "image.pullPolicy" not in values


@pytest.mark.parametrize("reference", ["serin", "localhost:5000/serin", "serin:", ":1", "serin@sha256:12", "a/:1"])
def test_image_without_tag_or_digest_is_rejected(reference: str) -> None:
    with pytest.raises(DemoError, match="repository:tag or repository@sha256"):
        users_cluster(OWN | {"DEMO_OPERATOR_IMAGE": reference})


def test_sandbox_never_pulls_the_operator_image() -> None:
    values = operator_values(Image.parse("serin.dev/operator:dev"), Place({}, "http://g", "http://p"))
    assert values["image.pullPolicy"] == "Never"


def test_sandbox_place_is_read_from_export_lines(tmp_path: Path) -> None:
    lines = "export KUBECONFIG='/a b/c'\nexport GATEWAY_URL=http://g\nexport PROMETHEUS_URL=http://p\n"
    (tmp_path / "env").write_text(f'{lines}export PATH=/first:"$PATH"\n')
    place = sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path), "PATH": "/usr/bin"})
    assert (place.gateway_url, place.prometheus_url) == ("http://g", "http://p")
    assert (place.environment["KUBECONFIG"], place.environment["PATH"]) == ("/a b/c", "/first:/usr/bin")
    assert read_exports("# nothing\n\n", "") == {}


def test_missing_sandbox_or_api_tier_gives_advice(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make sandbox"):
        sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path)})
    (tmp_path / "env").write_text("export KUBECONFIG=/k\n")
    with pytest.raises(DemoError, match="API tier"):
        sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path)})


@pytest.mark.parametrize("file", [INSTALL, BETTER, TOO_SMALL], ids=lambda file: file.stem)
def test_demo_files_are_valid_as_written_and_adapted(file: Path) -> None:
    place = users_cluster(OWN)
    assert place
    written = load_manifest(file)
    LLMDeploymentSpec.model_validate(written["spec"])
    spec = LLMDeploymentSpec.model_validate(adapted(written, place)["spec"])
    assert spec.model.source in {OWN["DEMO_MODEL"], OWN["DEMO_BETTER_MODEL"]}
    assert spec.pod_template is None
    assert spec.engine.resources is None
    assert spec.routing.gateway.parent_refs[0].namespace == "infra"


def test_prompt_files_need_no_other_pods_than_the_better_checkpoint() -> None:
    here = Place({}, "http://g", "http://p")
    specs = [
        LLMDeploymentSpec.model_validate(manifest(file, here)["spec"])
        for file in (BETTER, FIRST_PROMPT, BETTER_PROMPT, WRONG_KEYS)
    ]
    assert len({engine_revision(spec) for spec in specs}) == 1
    assert len({spec.prompt.name for spec in specs if spec.prompt}) == 3


@pytest.mark.parametrize(("line", "gateway"), [("", "contour"), ("export GATEWAY=traefik\n", "traefik")])
def test_operator_reads_the_counters_of_the_sandboxs_gateway(tmp_path: Path, line: str, gateway: str) -> None:
    (tmp_path / "env").write_text(f"{line}export GATEWAY_URL=http://g\nexport PROMETHEUS_URL=http://p\n")
    place = sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path)})
    assert operator_values(Image.parse("serin.dev/operator:dev"), place)["prometheus.gateway"] == gateway
