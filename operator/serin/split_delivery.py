"""Asks the kubelets to deliver a changed split document at once, by an annotation; evicts a pod that does not switch.

Called by the reconciler after each plan. Without it a kubelet delivers within about 90 seconds, so a refused write
holds up nothing. Level-triggered: every pod whose annotation differs from its document gets it, new pods included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from serin.api.names import ANNOTATION_SPLIT
from serin.cluster.port import POD, Cluster
from serin.errors import ClusterError, Conflict
from serin.kube_types import Object
from serin.manifests.observed import engine_of_pod

AT_ONCE = 8
"""Writes at a time."""

log = structlog.get_logger(__name__)


async def deliver(cluster: Cluster, pods: Iterable[Object], digests: Mapping[str, str]) -> int:
    """Annotate the pods that do not name their document; returns how many were annotated.

    Args:
        cluster: the API server.
        pods: of one LLMDeployment, as they were read.
        digests: of the stored documents, by engine revision.
    """
    done = 0
    behind = list(_behind(pods, digests))
    for start in range(0, len(behind), AT_ONCE):
        some = behind[start : start + AT_ONCE]
        failures = await asyncio.gather(*(_annotate(cluster, pod, digest) for pod, digest in some))
        refused = [failure for failure in failures if failure]
        done += len(some) - len(refused)
        if len(refused) == len(some) and not all(isinstance(failure, Conflict) for failure in refused):
            # The others would wait for the same answer; the next reconcile tries again.
            log.warning("pods not annotated", error=str(refused[0]), namespace=some[0][0]["metadata"]["namespace"])
            break
    return done


async def evict(cluster: Cluster, pods: Iterable[Object], name: str | None) -> str | None:
    """Evict the pod of this name, if any; returns a sentence about what became of it, for people.

    A refusal holds up nothing: the pod is named in the status, and the next reconcile asks again.
    """
    meta = next((pod["metadata"] for pod in pods if pod["metadata"]["name"] == name), None)
    if meta is None or meta.get("deletionTimestamp"):
        return None
    try:
        await cluster.evict(meta["namespace"], meta["name"], uid=meta["uid"])
    except ClusterError as error:
        log.warning("pod not evicted", pod=name, namespace=meta["namespace"], error=str(error))
        return f"Pod {name} still uses an earlier split document, and its eviction failed; delete it: {error}"
    log.info("pod evicted", pod=name, namespace=meta["namespace"])
    return f"Serin has evicted pod {name}, because it still used an earlier split document."


def _behind(pods: Iterable[Object], digests: Mapping[str, str]) -> Iterable[tuple[Object, str]]:
    for pod in pods:
        meta, digest = pod["metadata"], digests.get(engine_of_pod(pod))
        shown = (meta.get("annotations") or {}).get(ANNOTATION_SPLIT)
        if digest and shown != digest and not meta.get("deletionTimestamp"):
            yield pod, digest


async def _annotate(cluster: Cluster, pod: Object, digest: str) -> ClusterError | None:
    meta = pod["metadata"]
    try:
        await cluster.annotate(POD, meta["namespace"], meta["name"], {ANNOTATION_SPLIT: digest}, uid=meta["uid"])
    except ClusterError as error:
        return error
    return None
