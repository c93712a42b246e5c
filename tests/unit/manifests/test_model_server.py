"""The middleware in a rendered pod, and its absence without an image."""

from __future__ import annotations

from typing import Any

import pytest

from serin.manifests.engine_defaults import EngineDefaults
from serin.manifests.model_server import DIRECTORY, INIT_CONTAINER, MIDDLEWARE_ARG, VOLUME
from serin.manifests.pod_template import render_pod_template
from tests.unit.manifests.samples import DEFAULTS, ENGINE_REVISION, OWNER, engine_of, make_spec, make_template

IMAGE = "serin.dev/operator:0.1.0"
MEASURING = EngineDefaults(image=DEFAULTS.image, model_server_image=IMAGE, model_server_pull_policy="Never")


def measuring(**changes: Any) -> dict[str, Any]:
    return render_pod_template(OWNER.name, make_spec(**changes), ENGINE_REVISION, MEASURING)


def overlaid(**engine: Any) -> dict[str, Any]:
    return measuring(podTemplate={"spec": {"containers": [{"name": "engine", **engine}]}})


def search_path(template: dict[str, Any]) -> Any:
    return next(entry for entry in engine_of(template)["env"] if entry["name"] == "PYTHONPATH")


def test_pod_without_image_has_no_middleware() -> None:
    template = make_template()

    assert "initContainers" not in template["spec"]
    assert MIDDLEWARE_ARG not in engine_of(template)["args"]
    assert "PYTHONPATH" not in {entry["name"] for entry in engine_of(template)["env"]}
    assert VOLUME not in {volume["name"] for volume in template["spec"]["volumes"]}


def test_middleware_adds_only_its_own_fields() -> None:
    plain, template = make_template(), measuring()
    engine = engine_of(template)
    del template["spec"]["initContainers"]
    engine["args"].remove(MIDDLEWARE_ARG)
    assert engine["readinessProbe"]["httpGet"].pop("path") == "/health?split"
    engine["readinessProbe"]["httpGet"]["path"] = "/health"
    for entries, key, value in (
        (engine["env"], "name", "PYTHONPATH"),
        (engine["env"], "name", "SERIN_SPLIT"),
        (engine["env"], "name", "SERIN_PROMPTS"),
        (engine["volumeMounts"], "name", VOLUME),
        (engine["volumeMounts"], "name", "serin-split"),
        (template["spec"]["volumes"], "name", VOLUME),
        (template["spec"]["volumes"], "name", "serin-split"),
    ):
        entries.remove(next(entry for entry in entries if entry[key] == value))

    assert template == plain


def test_init_container_installs_middleware_read_only_for_engine() -> None:
    template = measuring()
    (init,) = template["spec"]["initContainers"]

    assert (init["name"], init["image"], init["imagePullPolicy"]) == (INIT_CONTAINER, IMAGE, "Never")
    assert init["command"] == ["python3", "-m", "serin.install_model_server", DIRECTORY]
    assert init["volumeMounts"] == [{"name": VOLUME, "mountPath": DIRECTORY}]
    assert {"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True} in engine_of(template)["volumeMounts"]
    assert {"name": VOLUME, "emptyDir": {}} in template["spec"]["volumes"]
    assert engine_of(template)["args"][-1] == MIDDLEWARE_ARG
    assert search_path(template)["value"] == DIRECTORY


def test_init_container_is_hardened_and_keeps_guaranteed_qos() -> None:
    template = measuring()
    (init,) = template["spec"]["initContainers"]

    assert init["securityContext"] == engine_of(template)["securityContext"]
    assert init["resources"]["limits"] == init["resources"]["requests"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("/their/code", f"{DIRECTORY}:/their/code"),
        ("", DIRECTORY),
        (f"/first:{DIRECTORY}", f"/first:{DIRECTORY}"),
    ],
    ids=["another", "empty", "both"],
)
def test_user_pythonpath_does_not_hide_middleware(written: str, value: str) -> None:
    template = overlaid(env=[{"name": "PYTHONPATH", "value": written}])

    assert search_path(template) == {"name": "PYTHONPATH", "value": value}


def test_pythonpath_by_reference_is_unchanged() -> None:
    reference = {"configMapKeyRef": {"name": "paths", "key": "python"}}

    assert search_path(overlaid(env=[{"name": "PYTHONPATH", "valueFrom": reference}]))["valueFrom"] == reference


def test_user_init_containers_follow_the_middleware() -> None:
    template = measuring(podTemplate={"spec": {"initContainers": [{"name": "weights", "image": "x:1"}]}})

    assert [container["name"] for container in template["spec"]["initContainers"]] == [INIT_CONTAINER, "weights"]
