"""Adds Serin's middleware to an engine pod with any vLLM image.

An init container copies the middleware from the operator's image to a volume on the engine's PYTHONPATH, and one
argument makes vLLM load it. Called by `pod_template` if an image is configured. Whether the pods of a record run the
middleware is read from the recorded template.
"""

from __future__ import annotations

from typing import Any

from serin.api.names import CONTAINER, MIDDLEWARE_ARG

INIT_CONTAINER = "serin-model-server"
VOLUME = "serin-model-server"
DIRECTORY = "/opt/serin/model-server"
SEARCH_PATH = "PYTHONPATH"


def add_model_server(pod: dict[str, Any], image: str, pull_policy: str) -> None:
    """Add the middleware to a rendered pod spec, before the overlay."""
    (engine,) = (container for container in pod["containers"] if container["name"] == CONTAINER)
    engine["args"].append(MIDDLEWARE_ARG)
    # This replaces a PYTHONPATH of the image; users of such an image must set both in podTemplate.
    engine["env"].append({"name": SEARCH_PATH, "value": DIRECTORY})
    engine["volumeMounts"].append({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True})
    pod["volumes"].append({"name": VOLUME, "emptyDir": {}})
    pod["initContainers"] = [_init_container(image, pull_policy)]


def keep_on_search_path(template: dict[str, Any]) -> None:
    """Prepend our directory to an overlay's PYTHONPATH value, because vLLM does not start without the middleware."""
    for container in template["spec"]["containers"]:
        if container.get("name") != CONTAINER:
            continue
        for entry in container.get("env") or ():
            value = entry.get("value")
            if entry.get("name") != SEARCH_PATH or not isinstance(value, str):  # the API server refuses other types
                continue
            if DIRECTORY not in value.split(":"):
                entry["value"] = f"{DIRECTORY}:{value}" if value else DIRECTORY


def _init_container(image: str, pull_policy: str) -> dict[str, Any]:
    # Limits equal requests, so that the pod can have the QoS class Guaranteed. The resources of an init container count
    # only if they exceed the sum of the other containers.
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
