"""Where the demo runs, as read from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo.cluster import load_manifest
from examples.demo.errors import DemoError
from examples.demo.manifests import BETTER, INSTALL, TOO_SMALL, adapted
from examples.demo.place import NEEDED, Image, Place, read_exports, sandbox_place, users_own
from examples.demo.prepare import operator_values
from serin.api.llmdeployment import LLMDeploymentSpec

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


def test_without_kubeconfig_the_sandbox_is_used() -> None:
    assert users_own({}) is None


def test_the_sandboxs_own_kubeconfig_is_no_cluster_of_the_users(tmp_path: Path) -> None:
    here = {"SERIN_SANDBOX_DIR": str(tmp_path), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    assert users_own(here) is None


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_missing_of_a_cluster_of_the_users_is_named(name: str) -> None:
    with pytest.raises(DemoError, match=name):
        users_own({key: value for key, value in OWN.items() if key != name})


@pytest.mark.parametrize("written", ["llm", "/llm", "gateway/"])
def test_a_gateway_without_namespace_or_name_is_refused(written: str) -> None:
    with pytest.raises(DemoError, match="namespace/name"):
        users_own(OWN | {"DEMO_GATEWAY": written})


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
def test_an_image_is_split_into_what_the_chart_wants(reference: str, parts: tuple[str, str, str]) -> None:
    repository, tag, digest = parts
    place = users_own(OWN | {"DEMO_OPERATOR_IMAGE": reference})
    assert place
    assert place.operator_image == Image(repository, tag, digest)
    values = operator_values(place.operator_image, place)
    assert (values["image.repository"], values["image.tag"], values["image.digest"]) == parts
    assert "image.pullPolicy" not in values


@pytest.mark.parametrize("reference", ["serin", "localhost:5000/serin", "serin:", ":1", "serin@sha256:12", "a/:1"])
def test_an_image_without_tag_or_digest_is_refused(reference: str) -> None:
    with pytest.raises(DemoError, match="repository:tag or repository@sha256"):
        users_own(OWN | {"DEMO_OPERATOR_IMAGE": reference})


def test_the_sandbox_never_pulls_the_image_that_it_made() -> None:
    values = operator_values(Image.parse("serin.dev/operator:dev"), Place({}, "http://g", "http://p"))
    assert values["image.pullPolicy"] == "Never"


def test_the_shell_lines_of_the_sandbox_are_read(tmp_path: Path) -> None:
    lines = "export KUBECONFIG='/a b/c'\nexport GATEWAY_URL=http://g\nexport PROMETHEUS_URL=http://p\n"
    (tmp_path / "env").write_text(f'{lines}export PATH=/first:"$PATH"\n')
    place = sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path), "PATH": "/usr/bin"})
    assert (place.gateway_url, place.prometheus_url) == ("http://g", "http://p")
    assert (place.environment["KUBECONFIG"], place.environment["PATH"]) == ("/a b/c", "/first:/usr/bin")
    assert read_exports("# nothing\n\n", "") == {}


def test_without_a_sandbox_or_with_the_api_tier_alone_the_demo_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make sandbox"):
        sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path)})
    (tmp_path / "env").write_text("export KUBECONFIG=/k\n")
    with pytest.raises(DemoError, match="API tier"):
        sandbox_place({"SERIN_SANDBOX_DIR": str(tmp_path)})


@pytest.mark.parametrize("file", [INSTALL, BETTER, TOO_SMALL], ids=lambda file: file.stem)
def test_every_file_of_the_demo_is_valid_as_written_and_adapted_to_another_cluster(file: Path) -> None:
    place = users_own(OWN)
    assert place
    written = load_manifest(file)
    LLMDeploymentSpec.model_validate(written["spec"])
    spec = LLMDeploymentSpec.model_validate(adapted(written, place)["spec"])
    assert spec.model.source in {OWN["DEMO_MODEL"], OWN["DEMO_BETTER_MODEL"]}
    assert spec.pod_template is None
    assert spec.engine.resources is None
    assert spec.routing.gateway.parent_refs[0].namespace == "infra"
