"""How the measuring middleware gets into a pod, and that nothing of it is there without an image."""

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


def test_without_an_image_a_pod_is_as_it_was() -> None:
    template = make_template()

    assert "initContainers" not in template["spec"]
    assert MIDDLEWARE_ARG not in engine_of(template)["args"]
    assert "PYTHONPATH" not in {entry["name"] for entry in engine_of(template)["env"]}
    assert VOLUME not in {volume["name"] for volume in template["spec"]["volumes"]}


def test_only_what_measuring_needs_is_added() -> None:
    plain, template = make_template(), measuring()
    engine = engine_of(template)
    del template["spec"]["initContainers"]
    engine["args"].remove(MIDDLEWARE_ARG)
    for entries, key, value in (
        (engine["env"], "name", "PYTHONPATH"),
        (engine["volumeMounts"], "name", VOLUME),
        (template["spec"]["volumes"], "name", VOLUME),
    ):
        entries.remove(next(entry for entry in entries if entry[key] == value))

    assert template == plain


def test_an_init_container_copies_the_middleware_and_the_engine_can_only_read_it() -> None:
    template = measuring()
    (init,) = template["spec"]["initContainers"]

    assert (init["name"], init["image"], init["imagePullPolicy"]) == (INIT_CONTAINER, IMAGE, "Never")
    assert init["command"] == ["python3", "-m", "serin.install_model_server", DIRECTORY]
    assert init["volumeMounts"] == [{"name": VOLUME, "mountPath": DIRECTORY}]
    assert {"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True} in engine_of(template)["volumeMounts"]
    assert {"name": VOLUME, "emptyDir": {}} in template["spec"]["volumes"]
    assert engine_of(template)["args"][-1] == MIDDLEWARE_ARG
    assert search_path(template)["value"] == DIRECTORY


def test_the_init_container_is_as_hardened_as_the_engine_and_keeps_a_guaranteed_pod_guaranteed() -> None:
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
def test_a_search_path_of_the_users_does_not_hide_the_middleware(written: str, value: str) -> None:
    template = overlaid(env=[{"name": "PYTHONPATH", "value": written}])

    assert search_path(template) == {"name": "PYTHONPATH", "value": value}


def test_a_search_path_by_reference_stays_as_it_is_written() -> None:
    reference = {"configMapKeyRef": {"name": "paths", "key": "python"}}

    assert search_path(overlaid(env=[{"name": "PYTHONPATH", "valueFrom": reference}]))["valueFrom"] == reference


def test_the_users_own_init_containers_come_after_ours() -> None:
    template = measuring(podTemplate={"spec": {"initContainers": [{"name": "weights", "image": "x:1"}]}})

    assert [container["name"] for container in template["spec"]["initContainers"]] == [INIT_CONTAINER, "weights"]
