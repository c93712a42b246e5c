"""Renders the pod template of an engine revision, with the user's overlay.

It is rendered once per engine revision and stored in the record; children are rendered from the record. So a change of
this code restarts no pod. The template does not contain the revision, so a new prompt restarts no pod either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serin.api.names import CONTAINER
from serin.errors import SpecError
from serin.manifests.engine_args import drain_seconds
from serin.manifests.engine_container import engine_container, engine_volumes
from serin.manifests.model_server import add_model_server, keep_on_search_path
from serin.manifests.model_source import read_source
from serin.manifests.overlay import lay_over
from serin.manifests.owner import common_labels, selector
from serin.manifests.split_document import altered_mount, mount_split

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec
    from serin.manifests.engine_defaults import EngineDefaults

USER = 2000
"""User id that exists in upstream vLLM images (with group 0); with an unknown user id, vLLM crashes in getpwuid."""
_PLACE = "spec.podTemplate"


def render_pod_template(
    owner_name: str, spec: LLMDeploymentSpec, engine_revision: str, defaults: EngineDefaults
) -> dict[str, Any]:
    """The pod template, including the overlay.

    Raises:
        SpecError: the model source, the arguments or the overlay are invalid.
    """
    template = {
        "metadata": {"labels": common_labels(owner_name, "engine") | selector(owner_name, engine_revision)},
        "spec": _pod_spec(spec, defaults),
    }
    if defaults.model_server_image:
        mount_split(template["spec"], _engine(template["spec"]), owner_name, engine_revision)
    if spec.pod_template is None:
        return template
    # Not normalized, because null removes a field. A rule of the API rejects labels of serin.dev.
    written = {"metadata": spec.pod_template.metadata, "spec": spec.pod_template.spec}
    merged = lay_over(template, {part: overlay for part, overlay in written.items() if overlay is not None}, _PLACE)
    if not _engine(merged["spec"]):
        raise SpecError(
            f"{_PLACE}.spec.containers removes the container {CONTAINER}; list only what you change or add."
        )
    if defaults.model_server_image:
        keep_on_search_path(merged)
        if altered := altered_mount(merged["spec"], _engine(merged["spec"]), owner_name, engine_revision):
            raise SpecError(
                f"{_PLACE} changes {altered}, from which the pods learn how traffic is split; "
                "remove that, or use another name and path."
            )
    return merged


def _engine(pod: Mapping[str, Any]) -> dict[str, Any]:
    return next((c for c in pod.get("containers") or () if c.get("name") == CONTAINER), {})


def _pod_spec(spec: LLMDeploymentSpec, defaults: EngineDefaults) -> dict[str, Any]:
    source = read_source(spec.model.source)
    pod: dict[str, Any] = {
        "containers": [engine_container(spec, source, defaults)],
        "volumes": engine_volumes(spec, source, defaults),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            # Do not change the owner of every file of a large cache on every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": defaults.leave_seconds + drain_seconds(spec) + defaults.shutdown_margin,
        "automountServiceAccountToken": False,
        # A Service named `vllm` would set VLLM_PORT to a URL, with which vLLM does not start.
        "enableServiceLinks": False,
    }
    if defaults.model_server_image:
        add_model_server(pod, defaults.model_server_image, defaults.model_server_pull_policy)
    return pod
