"""What a cluster of the user's own is asked before anything of it is touched. kubectl and helm are scripts here."""

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
    """A helm that knows these releases (namespace, name, chart), none of them the demo's."""
    listed = json.dumps([dict(zip(("namespace", "name", "chart"), each, strict=True)) for each in releases])
    program(folder, "helm", f"case \"$*\" in list*{FOREIGN}*) echo '{listed}' ;; *) exit 1 ;; esac\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    program(tmp_path, "kubectl", KUBECTL)
    helm(tmp_path)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": "/elsewhere"}
    return Place(environment, "http://g", "http://p", sandbox=False)


def test_the_context_is_told_before_it_is_used(place: Place) -> None:
    told = io.StringIO()
    assert own_cluster.ready(Teller(told), place) == place
    assert "context kind-demo, https://192.0.2.1:6443" in told.getvalue()


@pytest.mark.parametrize(
    "release",
    [
        ("serin-system", "serin", "serin-0.1.0"),
        ("elsewhere", "canaries", "serin-1.2.3-rc.1"),
        ("serin-system", "serin-crds", "serin-crds-0.1.0"),
    ],
    ids="/".join,
)
def test_a_serin_of_somebody_else_is_refused_by_name(
    place: Place, tmp_path: Path, release: tuple[str, str, str]
) -> None:
    helm(tmp_path, ("default", "other", "serine-1.0.0"), release)
    with pytest.raises(DemoError, match=rf"helm release {release[0]}/{release[1]}\); uninstall it"):
        own_cluster.ready(Teller(io.StringIO()), place)


def test_other_peoples_other_charts_are_none_of_our_business(place: Place, tmp_path: Path) -> None:
    helm(tmp_path, ("default", "serin", "serine-1.0.0"), ("default", "proxy", "nginx-1.0.0"))
    own_cluster.check_releases(place)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ('"config current-context") echo kind-demo', "choose one with `kubectl config use-context`"),
        ("*api-resources*) echo httproutes", "no Gateway API"),
        ('/llm*) echo \'{"kind": "Gateway"}\'', "There is no Gateway gateway/llm"),
    ],
    ids=["context", "gateway-api", "gateway"],
)
def test_what_the_cluster_lacks_is_said(place: Place, tmp_path: Path, broken: str, sentence: str) -> None:
    assert broken in KUBECTL
    pattern = broken.partition(")")[0]
    lacking = {"config": f"{pattern}) exit 1", "api": f"{pattern}) echo tlsroutes", "/llm": f"{pattern}) true"}
    program(tmp_path, "kubectl", KUBECTL.replace(broken, next(new for key, new in lacking.items() if key in broken)))
    with pytest.raises(DemoError, match=sentence):
        own_cluster.ready(Teller(io.StringIO()), place)


def test_a_tool_that_is_missing_comes_from_the_sandboxs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helm(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(own_cluster, "stream", lambda _tell, command, _environment: asked.extend(command[2:]))
    lonely = Place({"PATH": str(tmp_path)}, "http://g", "http://p", sandbox=False)
    found = own_cluster.with_tools(Teller(io.StringIO()), lonely)
    first, second = found.environment["PATH"].split(os.pathsep)
    assert asked == ["kubectl"]
    assert first == str(tmp_path)
    assert Path(second).name.startswith("kubectl")
