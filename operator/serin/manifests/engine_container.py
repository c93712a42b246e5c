"""Renders the container that runs vLLM, and its volumes. `engine_args` renders the command line.

Called by `pod_template` only. The probes are set so that a busy or loading engine is not restarted.
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
"""Seconds beyond the progress deadline, so that Serin reports a slow start before the kubelet restarts the
container."""
_STARTUP_MAX = 24 * 3600
_HUNG_GRACE = 30
"""Seconds between SIGTERM and SIGKILL for an engine that hangs and therefore needs no drain."""


def engine_container(spec: LLMDeploymentSpec, source: ModelSource, defaults: EngineDefaults) -> dict[str, Any]:
    """The container `engine`.

    Raises:
        SpecError: the arguments are invalid.
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
        # A deleted pod (node drain, scale-down) keeps serving until the gateway has removed its address.
        "lifecycle": {"preStop": {"sleep": {"seconds": defaults.leave_seconds}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # After a crash, the end of vLLM's log becomes the termination message, which Serin reports.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def engine_volumes(spec: LLMDeploymentSpec, source: ModelSource, defaults: EngineDefaults) -> list[dict[str, Any]]:
    """The volumes that the container mounts."""
    cache = spec.engine.cache
    # The processes of an engine share tensors in /dev/shm; the container runtime's default of 64 MB is too small.
    shared_memory = f"{max(1, gpu_count(spec.engine.resources)) * defaults.shared_memory_gi}Gi"
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "cache", **({"persistentVolumeClaim": {"claimName": cache.pvc}} if cache else {"emptyDir": {}})},
    ]
    if source.claim:
        # Also read-only as a volume, so that the kubelet does not change the owner of every file to fsGroup.
        claim = {"claimName": source.claim, "readOnly": True}
        volumes.append({"name": "model", "persistentVolumeClaim": claim})
    return volumes


def _env(spec: LLMDeploymentSpec, source: ModelSource) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = [
        # Libraries write caches below HOME, and the root file system is read-only.
        {"name": "HOME", "value": SCRATCH},
        # Without USER, torch reads /etc/passwd, which fails in images without an entry for the user id.
        {"name": "USER", "value": "vllm"},
        {"name": "HF_HOME", "value": f"{CACHE}/huggingface"},
        # Do not send usage statistics to the vLLM project; users can set this variable in podTemplate.
        {"name": "VLLM_NO_USAGE_STATS", "value": "1"},
    ]
    if source.local:
        # Local weights need no hub; a pod without internet access would wait for its timeouts.
        env.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if token := spec.engine.hf_token_secret_ref:
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": token.name, "key": token.key}}})
    return env


def _resources(spec: LLMDeploymentSpec) -> dict[str, Any]:
    """The container's resources. Default: one GPU; `limits: {}` means an engine on the CPU."""
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
        # vLLM opens its port after it has loaded the weights.
        "startupProbe": {
            "httpGet": health,
            "periodSeconds": _STARTUP_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": -(-loading // _STARTUP_PERIOD),
            "terminationGracePeriodSeconds": _HUNG_GRACE,
        },
        "readinessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # Restart after five minutes without an answer: a busy engine answers late, and a crashed one exits by itself.
        "livenessProbe": {
            "httpGet": health,
            "periodSeconds": 15,
            "timeoutSeconds": 15,
            "failureThreshold": 20,
            "terminationGracePeriodSeconds": _HUNG_GRACE,
        },
    }
