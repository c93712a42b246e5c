"""The rendered pod template of vLLM, and the user's overlay."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serin.api.names import LABEL_REVISION
from serin.api.parse import read_spec
from serin.errors import SpecError
from tests.unit.manifests.samples import WITH_MODEL_SERVER, engine_of, make_spec, make_template

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - inside the pod
SCRATCH = "/tmp"  # noqa: S108 - inside the pod


def env_of(template: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in engine_of(template)["env"]}


def volumes_of(template: dict[str, Any]) -> dict[str, Any]:
    return {volume["name"]: volume for volume in template["spec"]["volumes"]}


def overlaid(**pod: Any) -> dict[str, Any]:
    return make_template(make_spec(podTemplate={"spec": pod}))


def test_pod_labels_have_engine_revision_but_no_revision() -> None:
    labels = make_template()["metadata"]["labels"]

    assert labels["serin.dev/deployment"] == "triage"
    assert labels["serin.dev/engine-revision"] == "0123456789"
    assert LABEL_REVISION not in labels


def test_container_keeps_the_image_entrypoint() -> None:
    assert "command" not in engine_of(make_template())


def test_pod_is_hardened() -> None:
    pod = make_template()["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 2000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert engine_of({"spec": pod})["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_every_writable_directory_is_a_volume() -> None:
    template = make_template()
    writable = {mount["mountPath"] for mount in engine_of(template)["volumeMounts"]}

    assert writable == {SHARED_MEMORY, SCRATCH, "/cache"}
    assert env_of(template)["HOME"] == SCRATCH
    assert env_of(template)["HF_HOME"].startswith("/cache/")


@pytest.mark.parametrize(("gpus", "limit"), [(0, "2Gi"), (1, "2Gi"), (8, "16Gi")])
def test_shared_memory_grows_with_gpus(gpus: int, limit: str) -> None:
    template = make_template(make_spec(engine={"resources": {"limits": {"nvidia.com/gpu": gpus}}}))

    assert volumes_of(template)["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": limit}


@pytest.mark.parametrize(
    ("engine", "resources"),
    [
        ({}, {"limits": {"nvidia.com/gpu": "1"}}),
        ({"resources": {}}, None),
        ({"resources": {"limits": {}}}, None),
        ({"resources": {"requests": {"cpu": 2}}}, {"requests": {"cpu": "2"}}),
    ],
    ids=["absent-is-one-gpu", "empty-is-cpu", "empty-limits-are-cpu", "only-requests"],
)
def test_resources_default_to_one_gpu_only_if_absent(engine: dict[str, Any], resources: Any) -> None:
    assert engine_of(make_template(make_spec(engine=engine))).get("resources") == resources


@pytest.mark.parametrize(("deadline", "seconds"), [("10m", 660), ("30m", 1860), ("7s", 70), ("200h", 24 * 3600)])
def test_startup_probe_exceeds_progress_deadline_up_to_a_day(deadline: str, seconds: int) -> None:
    probe = engine_of(make_template(make_spec(rollout={"progressDeadline": deadline})))["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] == seconds


def test_grace_period_covers_gateway_removal_drain_and_exit() -> None:
    template = make_template(make_spec(rollout={"drainTimeout": "10m"}))
    leave = engine_of(template)["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert template["spec"]["terminationGracePeriodSeconds"] > leave + 600


def test_hung_engine_has_a_short_grace_period() -> None:
    container = engine_of(make_template())

    assert container["livenessProbe"]["terminationGracePeriodSeconds"] == 30
    assert container["startupProbe"]["terminationGracePeriodSeconds"] == 30


def test_liveness_probe_tolerates_minutes_of_silence() -> None:
    probe = engine_of(make_template())["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_hub_token_comes_from_the_secret() -> None:
    template = make_template(make_spec(engine={"hfTokenSecretRef": {"name": "hub"}}))

    assert env_of(template)["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}


def test_cache_claim_is_mounted_for_downloads() -> None:
    template = make_template(make_spec(engine={"cache": {"pvc": "weights"}}))

    assert volumes_of(template)["cache"]["persistentVolumeClaim"] == {"claimName": "weights"}
    assert "HF_HUB_OFFLINE" not in env_of(template)


def test_weights_on_a_claim_are_read_only_and_offline() -> None:
    template = make_template(make_spec(model={"source": "pvc://weights/llama"}))

    assert volumes_of(template)["model"]["persistentVolumeClaim"] == {"claimName": "weights", "readOnly": True}
    mounts = engine_of(template)["volumeMounts"]
    assert {"name": "model", "mountPath": "/models/weights", "readOnly": True} in mounts
    assert env_of(template)["HF_HUB_OFFLINE"] == "1"


def test_user_image_takes_precedence_over_default() -> None:
    assert engine_of(make_template(make_spec(engine={"image": "mine:1"})))["image"] == "mine:1"
    assert engine_of(make_template())["image"] == "vllm/vllm-openai:v0.32.0"


def test_rendered_templates_are_equal_and_share_no_objects() -> None:
    spec = make_spec(podTemplate={"spec": {"nodeSelector": {"gpu": "h100"}}})
    first, second = make_template(spec), make_template(spec)
    assert first == second

    first["spec"]["nodeSelector"]["gpu"] = "a100"
    assert second["spec"]["nodeSelector"] == {"gpu": "h100"}


# The overlay.


def test_container_engine_is_merged_and_others_are_added() -> None:
    template = overlaid(containers=[{"name": "engine", "tty": True}, {"name": "logs", "image": "logs:1"}])

    assert [container["name"] for container in template["spec"]["containers"]] == ["engine", "logs"]
    assert engine_of(template)["tty"] is True
    assert engine_of(template)["args"][0] == "org/model"


def test_env_mounts_and_ports_merge_by_key() -> None:
    template = overlaid(
        containers=[
            {
                "name": "engine",
                "env": [{"name": "HOME", "value": "/home"}, {"name": "NEW", "value": "1"}],
                "volumeMounts": [{"mountPath": "/cache", "name": "fast"}, {"mountPath": "/x", "name": "x"}],
                "ports": [{"containerPort": 8000, "hostPort": 80}, {"containerPort": 9000}],
            }
        ]
    )
    container = engine_of(template)

    assert [entry["name"] for entry in container["env"]][:1] == ["HOME"]
    assert env_of(template)["HOME"] == "/home"
    assert env_of(template)["NEW"] == "1"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [SHARED_MEMORY, SCRATCH, "/cache", "/x"]
    assert container["volumeMounts"][2]["name"] == "fast"
    assert container["ports"] == [
        {"name": "http", "containerPort": 8000, "protocol": "TCP", "hostPort": 80},
        {"containerPort": 9000},
    ]


def test_list_without_key_is_replaced() -> None:
    template = overlaid(
        containers=[{"name": "engine", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}],
    )

    security = engine_of(template)["securityContext"]
    assert security["capabilities"] == {"drop": ["NET_RAW"]}
    assert security["readOnlyRootFilesystem"] is True


def test_null_removes_a_field() -> None:
    template = overlaid(securityContext={"fsGroup": None}, containers=[{"name": "engine", "livenessProbe": None}])

    assert "fsGroup" not in template["spec"]["securityContext"]
    assert template["spec"]["securityContext"]["runAsUser"] == 2000
    assert "livenessProbe" not in engine_of(template)


def test_other_volume_source_replaces_and_same_source_merges() -> None:
    volumes = volumes_of(
        overlaid(
            volumes=[
                {"name": "cache", "hostPath": {"path": "/mnt"}},
                {"name": "shm", "emptyDir": {"sizeLimit": "64Gi"}},
            ]
        )
    )

    assert volumes["cache"] == {"name": "cache", "hostPath": {"path": "/mnt"}}
    assert volumes["shm"] == {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}


def test_other_handler_of_probe_or_hook_replaces() -> None:
    template = overlaid(
        containers=[
            {
                "name": "engine",
                "readinessProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "9"]}}},
            }
        ]
    )

    probe = engine_of(template)["readinessProbe"]
    assert "httpGet" not in probe
    assert probe["periodSeconds"] == 5
    assert engine_of(template)["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "9"]}}


def test_plain_env_value_replaces_reference() -> None:
    spec = make_spec(
        engine={"hfTokenSecretRef": {"name": "hub"}},
        podTemplate={"spec": {"containers": [{"name": "engine", "env": [{"name": "HF_TOKEN", "value": "x"}]}]}},
    )

    entries = engine_of(make_template(spec))["env"]
    assert [entry for entry in entries if entry["name"] == "HF_TOKEN"] == [{"name": "HF_TOKEN", "value": "x"}]


def test_labels_and_annotations_are_added() -> None:
    overlay = {"metadata": {"labels": {"team": "support"}, "annotations": {"a/b": "c"}}}
    metadata = make_template(make_spec(podTemplate=overlay))["metadata"]

    assert metadata["labels"]["team"] == "support"
    assert metadata["labels"]["serin.dev/deployment"] == "triage"
    assert metadata["annotations"] == {"a/b": "c"}


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, r"spec.podTemplate.spec.containers\[0\] has no name"),
        (
            {"spec": {"containers": [{"name": "engine", "volumeMounts": [{"name": "x"}]}]}},
            r"containers\[0\].volumeMounts\[0\] has no mountPath",
        ),
    ],
    ids=["container", "mount"],
)
def test_overlay_item_without_key_is_an_error(overlay: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        make_template(make_spec(podTemplate=overlay))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
KEYS = st.sampled_from(["name", "mountPath", "env", "volumeMounts", "value", "ports", "containerPort", "x"])
ENTRIES = st.sampled_from(["engine", "PYTHONPATH", "serin-split", "serin-model-server", "SERIN_SPLIT"])
ANYTHING = st.recursive(
    SCALARS | ENTRIES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["containers", "initContainers", "volumes", "affinity", "imagePullSecrets", "hostAliases"])


@pytest.mark.parametrize(
    ("pod", "sentence"),
    [
        ({"volumes": True}, "spec.podTemplate.spec.volumes is not a list; write it as a list"),
        ({"initContainers": {"name": "x"}}, "spec.podTemplate.spec.initContainers is not a list"),
        ({"volumes": [{"name": ["x"]}]}, "spec.podTemplate.spec.volumes[0] has no name, which is the key"),
        ({"volumes": [{"name": {"a": 1}}]}, "spec.podTemplate.spec.volumes[0] has no name, which is the key"),
        ({"containers": [{"name": "engine", "env": {"A": "b"}}]}, "spec.podTemplate.spec.containers[0].env is not a"),
        ({"containers": None}, "spec.podTemplate.spec.containers removes the container engine"),
    ],
)
def test_overlay_of_another_shape_is_refused(pod: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as refusal:
        make_template(make_spec(podTemplate={"spec": pod}), WITH_MODEL_SERVER)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize("value", [5, {"a": 1}, ["x"]])
def test_search_path_that_is_no_text_is_left_to_the_api_server(value: Any) -> None:
    entry = {"name": "PYTHONPATH", "value": value}
    template = make_template(
        make_spec(podTemplate={"spec": {"containers": [{"name": "engine", "env": [entry]}]}}), WITH_MODEL_SERVER
    )
    assert env_of(template)["PYTHONPATH"] == value


@given(st.dictionaries(FIELDS, ANYTHING | st.lists(st.dictionaries(KEYS, ANYTHING, max_size=3), max_size=2)))
def test_any_overlay_is_rendered_or_refused_with_a_sentence(pod: dict[str, Any]) -> None:
    written = make_spec().model_dump(by_alias=True, exclude_none=True, mode="json") | {"podTemplate": {"spec": pod}}
    spec, _, invalid = read_spec({"metadata": {"name": "triage"}, "spec": written})
    if invalid is None:
        with suppress(SpecError):
            make_template(spec, WITH_MODEL_SERVER)
