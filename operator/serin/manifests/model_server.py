"""How the measuring middleware gets into an engine's pod, whatever vLLM image the user chose.

An init container copies it from the operator's image into a volume that the engine has on its PYTHONPATH, and one
argument makes vLLM load it. Called by `pod_template` where an image is set; without one, a pod is rendered as if this
did not exist. Whether a record's pods measure is read from its template: templates are never rendered again.
"""

from __future__ import annotations

from typing import Any

from serin.api.names import CONTAINER, MIDDLEWARE_ARG

INIT_CONTAINER = "serin-model-server"
VOLUME = "serin-model-server"
DIRECTORY = "/opt/serin/model-server"
SEARCH_PATH = "PYTHONPATH"


def add_model_server(pod: dict[str, Any], image: str, pull_policy: str) -> None:
    """Let a pod's engine measure; `pod` is a fresh pod spec of ours, before any overlay."""
    (engine,) = (container for container in pod["containers"] if container["name"] == CONTAINER)
    engine["args"].append(MIDDLEWARE_ARG)
    # A value of the image's own is replaced by this one: whoever has such an image names both in the overlay.
    engine["env"].append({"name": SEARCH_PATH, "value": DIRECTORY})
    engine["volumeMounts"].append({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True})
    pod["volumes"].append({"name": VOLUME, "emptyDir": {}})
    pod["initContainers"] = [_init_container(image, pull_policy)]


def keep_on_search_path(template: dict[str, Any]) -> None:
    """An overlay's own PYTHONPATH comes after ours: without ours, vLLM would not start. Not where it is a reference."""
    for container in template["spec"]["containers"]:
        if container.get("name") != CONTAINER:
            continue
        for entry in container.get("env") or ():
            value = entry.get("value")
            if entry.get("name") == SEARCH_PATH and value is not None and DIRECTORY not in value.split(":"):
                entry["value"] = f"{DIRECTORY}:{value}" if value else DIRECTORY


def _init_container(image: str, pull_policy: str) -> dict[str, Any]:
    # Limits equal to requests, so that a pod which is Guaranteed stays so; an init container's count only where they
    # exceed those of all other containers together.
    amounts = {"cpu": "100m", "memory": "64Mi"}
    return {
        "name": INIT_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python3", "-m", "serin.install_model_server", DIRECTORY],
        "volumeMounts": [{"name": VOLUME, "mountPath": DIRECTORY}],
        "resources": {"limits": amounts, "requests": dict(amounts)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
