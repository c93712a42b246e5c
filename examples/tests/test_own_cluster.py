"""Checks of a user's cluster before the demo changes it. kubectl and helm are scripts in these tests."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from examples.demo import own_cluster
from examples.demo.errors import DemoError
from examples.demo.place import Place
from examples.demo.say import Teller

KUBECTL = """\
case "$*" in
"config current-context") echo kind-demo ;;
"config view"*) printf https://192.0.2.1:6443 ;;
*api-resources*) echo httproutes.gateway.networking.k8s.io ;;
*gateways.gateway.networking.k8s.io/llm*) echo '{"kind": "Gateway"}' ;;
*) exit 1 ;;
esac
"""
FOREIGN = "--selector=serin.dev/installed-by!=demo"


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}")
    (folder / name).chmod(0o755)


def helm(folder: Path, *releases: tuple[str, str, str]) -> None:
    """Write a helm that lists these releases (namespace, name, chart), none of them installed by the demo."""
    listed = json.dumps([dict(zip(("namespace", "name", "chart"), each, strict=True)) for each in releases])
    program(folder, "helm", f"case \"$*\" in list*{FOREIGN}*) echo '{listed}' ;; *) exit 1 ;; esac\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    program(tmp_path, "kubectl", KUBECTL)
    helm(tmp_path)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": "/elsewhere"}
    return Place(environment, "http://g", "http://p", sandbox=False)


def test_context_is_printed(place: Place) -> None:
    printed = io.StringIO()
    assert own_cluster.ready(Teller(printed), place) == place
    assert "context kind-demo, https://192.0.2.1:6443" in printed.getvalue()


@pytest.mark.parametrize(
    "release",
    [
        ("serin-system", "serin", "serin-0.1.0"),
        ("elsewhere", "canaries", "serin-1.2.3-rc.1"),
        ("serin-system", "serin-crds", "serin-crds-0.1.0"),
    ],
    ids="/".join,
)
def test_foreign_serin_release_is_rejected_by_name(place: Place, tmp_path: Path, release: tuple[str, str, str]) -> None:
    helm(tmp_path, ("default", "other", "serine-1.0.0"), release)
    with pytest.raises(DemoError, match=rf"helm release {release[0]}/{release[1]}\); uninstall it"):
        own_cluster.ready(Teller(io.StringIO()), place)


def test_releases_of_other_charts_are_ignored(place: Place, tmp_path: Path) -> None:
    helm(tmp_path, ("default", "serin", "serine-1.0.0"), ("default", "proxy", "nginx-1.0.0"))
    own_cluster.check_releases(place)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ('"config current-context") echo kind-demo', "choose one with `kubectl config use-context`"),
        ("*api-resources*) echo httproutes", "does not have the Gateway API"),
        ('/llm*) echo \'{"kind": "Gateway"}\'', "The Gateway gateway/llm does not exist"),
    ],
    ids=["context", "gateway-api", "gateway"],
)
def test_missing_part_of_cluster_is_named(place: Place, tmp_path: Path, broken: str, sentence: str) -> None:
    assert broken in KUBECTL
    pattern = broken.partition(")")[0]
    lacking = {"config": f"{pattern}) exit 1", "api": f"{pattern}) echo tlsroutes", "/llm": f"{pattern}) true"}
    program(tmp_path, "kubectl", KUBECTL.replace(broken, next(new for key, new in lacking.items() if key in broken)))
    with pytest.raises(DemoError, match=sentence):
        own_cluster.ready(Teller(io.StringIO()), place)


def test_missing_tool_comes_from_sandbox_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helm(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(own_cluster, "stream", lambda _tell, command, _environment: asked.extend(command[2:]))
    without_kubectl = Place({"PATH": str(tmp_path)}, "http://g", "http://p", sandbox=False)
    found = own_cluster.with_tools(Teller(io.StringIO()), without_kubectl)
    first, second = found.environment["PATH"].split(os.pathsep)
    assert asked == ["kubectl"]
    assert first == str(tmp_path)
    assert Path(second).name.startswith("kubectl")
