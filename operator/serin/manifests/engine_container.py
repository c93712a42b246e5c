"""The container that runs vLLM, and the volumes that it needs. Its command line is in `engine_args`.

Called by `pod_template` only. Every number that keeps a busy or a loading engine alive is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serin.api.engine import GPU
from serin.api.names import CONTAINER, PORT, PORT_NAME
from serin.manifests.engine_args import engine_args, gpu_count

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec
    from serin.manifests.engine_defaults import EngineDefaults
    from serin.manifests.model_source import ModelSource

CACHE = "/cache"
SCRATCH = "/tmp"  # noqa: S108 - the container's own emptyDir
_STARTUP_PERIOD = 5
_STARTUP_SPARE = 60
"""Seconds beyond the progress deadline: Serin, which can say why, judges a slow start before the kubelet ends it."""
_STARTUP_MAX = 24 * 3600
_HUNG_GRACE = 30
"""Seconds between SIGTERM and SIGKILL for an engine that hangs: there is nothing left to drain."""


def engine_container(spec: LLMDeploymentSpec, source: ModelSource, defaults: EngineDefaults) -> dict[str, Any]:
    """The container `engine`.

    Raises:
        SpecError: the arguments make no sense.
    """
    return {
        "name": CONTAINER,
        "image": spec.engine.image or defaults.image,
        "args": engine_args(spec, source),
        "env": _env(spec, source),
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        **_resources(spec),
        "volumeMounts": _mounts(source),
        **_probes(spec),
        # Deleted for whatever reason (node drain, scale down), it serves on until the gateway has dropped its address.
        "lifecycle": {"preStop": {"sleep": {"seconds": defaults.leave_seconds}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # The end of vLLM's log becomes the reason that a crash is reported with.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def engine_volumes(spec: LLMDeploymentSpec, source: ModelSource, defaults: EngineDefaults) -> list[dict[str, Any]]:
    """The volumes that the container mounts."""
    cache = spec.engine.cache
    # Processes of one engine share tensors in /dev/shm; the runtime's default of 64 MB is too small for that.
    shared_memory = f"{max(1, gpu_count(spec.engine.resources)) * defaults.shared_memory_gi}Gi"
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "cache", **({"persistentVolumeClaim": {"claimName": cache.pvc}} if cache else {"emptyDir": {}})},
    ]
    if source.claim:
        # Read-only also as a volume, so that the kubelet does not change the owner of every file for fsGroup.
        claim = {"claimName": source.claim, "readOnly": True}
        volumes.append({"name": "model", "persistentVolumeClaim": claim})
    return volumes


def _env(spec: LLMDeploymentSpec, source: ModelSource) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = [
        # Libraries write their own caches below HOME, and the root file system is read-only.
        {"name": "HOME", "value": SCRATCH},
        # Spares torch the look into /etc/passwd, which fails in images that do not know the user id.
        {"name": "USER", "value": "vllm"},
        {"name": "HF_HOME", "value": f"{CACHE}/huggingface"},
        # vLLM reports its usage to its makers; whether a company's cluster does is for that company to say.
        {"name": "VLLM_NO_USAGE_STATS", "value": "1"},
    ]
    if source.local:
        # Weights that are there need no hub; a pod without a way out would wait for its timeouts.
        env.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if token := spec.engine.hf_token_secret_ref:
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": token.name, "key": token.key}}})
    return env


def _resources(spec: LLMDeploymentSpec) -> dict[str, Any]:
    """One GPU unless the user wrote anything; an explicit `limits: {}` is an engine on the CPU."""
    wanted = spec.engine.resources
    if wanted is None:
        return {"resources": {"limits": {GPU: "1"}}}
    sides = {"limits": wanted.limits, "requests": wanted.requests}
    resources = {
        side: {name: str(amount) for name, amount in amounts.items()} for side, amounts in sides.items() if amounts
    }
    return {"resources": resources} if resources else {}


def _mounts(source: ModelSource) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - the container's own emptyDir
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "cache", "mountPath": CACHE},
    ]
    if source.claim:
        mounts.append({"name": "model", "mountPath": source.mount_path, "readOnly": True})
    return mounts


def _probes(spec: LLMDeploymentSpec) -> dict[str, Any]:
    health = {"path": "/health", "port": PORT}
    loading = min(int(spec.rollout.progress_deadline.total_seconds()) + _STARTUP_SPARE, _STARTUP_MAX)
    return {
        # The port opens only when the weights are loaded.
        "startupProbe": {
            "httpGet": health,
            "periodSeconds": _STARTUP_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": -(-loading // _STARTUP_PERIOD),
            "terminationGracePeriodSeconds": _HUNG_GRACE,
        },
        "readinessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # Five minutes of silence. A busy engine answers late and must live; a dead one ends its process by itself.
        "livenessProbe": {
            "httpGet": health,
            "periodSeconds": 15,
            "timeoutSeconds": 15,
            "failureThreshold": 20,
            "terminationGracePeriodSeconds": _HUNG_GRACE,
        },
    }
