"""The pod template of an engine revision: vLLM as production needs it, with the user's overlay on top.

Rendered once, when a revision is first seen, and kept in its record; children are made from the record. So nothing here
restarts a running pod when it changes. The revision (which a new prompt changes) is not in it: a prompt moves no pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serin.manifests.engine_args import drain_seconds
from serin.manifests.engine_container import engine_container, engine_volumes
from serin.manifests.model_server import add_model_server, keep_on_search_path
from serin.manifests.model_source import read_source
from serin.manifests.overlay import lay_over
from serin.manifests.owner import common_labels, selector

if TYPE_CHECKING:
    from serin.api.llmdeployment import LLMDeploymentSpec
    from serin.manifests.engine_defaults import EngineDefaults

USER = 2000
"""Exists in upstream vLLM images (with group 0), where an unknown user id makes vLLM crash in getpwuid."""
_PLACE = "spec.podTemplate"


def render_pod_template(
    owner_name: str, spec: LLMDeploymentSpec, engine_revision: str, defaults: EngineDefaults
) -> dict[str, Any]:
    """The whole pod template, overlay included.

    Raises:
        SpecError: the model source, the arguments or the overlay cannot be carried out.
    """
    template = {
        "metadata": {"labels": common_labels(owner_name, "engine") | selector(owner_name, engine_revision)},
        "spec": _pod_spec(spec, defaults),
    }
    if spec.pod_template is None:
        return template
    # Taken as written: a null in it means something. Labels of Serin's in it are refused by a rule of the API.
    written = {"metadata": spec.pod_template.metadata, "spec": spec.pod_template.spec}
    merged = lay_over(template, {part: overlay for part, overlay in written.items() if overlay is not None}, _PLACE)
    if defaults.model_server_image:
        keep_on_search_path(merged)
    return merged


def _pod_spec(spec: LLMDeploymentSpec, defaults: EngineDefaults) -> dict[str, Any]:
    source = read_source(spec.model.source)
    pod: dict[str, Any] = {
        "containers": [engine_container(spec, source, defaults)],
        "volumes": engine_volumes(spec, source, defaults),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            # A cache of terabytes is not walked through on every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": defaults.leave_seconds + drain_seconds(spec) + defaults.shutdown_margin,
        "automountServiceAccountToken": False,
        # A Service called `vllm` would set VLLM_PORT to a URL in every pod, which vLLM refuses to start with.
        "enableServiceLinks": False,
    }
    if defaults.model_server_image:
        add_model_server(pod, defaults.model_server_image, defaults.model_server_pull_policy)
    return pod
