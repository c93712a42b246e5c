"""Reads PromptVersions from a cluster with the rights of the person who runs the command. Writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serin.api.names import API_VERSION
from serin.cluster.api_server import ApiServer
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.port import PROMPTVERSION
from serin.errors import ClusterError, Forbidden, InputError, NotFound, SettingsError
from serin.kube_types import Object

LIMIT_SECONDS = 10.0
_RESULT = TypeVar("_RESULT")


async def list_prompts(namespace: str | None, context: str | None) -> tuple[list[Object], str]:
    """All PromptVersions of a namespace, and the namespace; None: that of the kubeconfig's context.

    Raises:
        InputError: the cluster cannot be reached, forbids it, or does not have the kind.
    """

    async def read(api: ApiServer, place: str) -> list[Object]:
        found = await _cluster(api).list(PROMPTVERSION, place, labels={})
        if not found:
            await _require_kind(api)
        return found

    return await _read(read, "list", namespace, context)


async def get_prompt(name: str, namespace: str | None, context: str | None) -> tuple[Object | None, str]:
    """The PromptVersion with this name, and the namespace; None if it does not exist.

    Raises:
        InputError: the cluster cannot be reached, forbids it, or does not have the kind.
    """

    async def read(api: ApiServer, place: str) -> Object | None:
        found = await _cluster(api).get(PROMPTVERSION, place, name)
        if found is None:
            await _require_kind(api)
        return found

    return await _read(read, "get", namespace, context)


async def _read(
    read: Callable[[ApiServer, str], Awaitable[_RESULT]], verb: str, namespace: str | None, context: str | None
) -> tuple[_RESULT, str]:
    # The client would print that a file is missing, which the error says, too.
    logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)
    try:
        api = await ApiServer.connect(LIMIT_SECONDS, context=context)
    except SettingsError as error:
        raise InputError(f"{error} To work without a cluster, give files with -f.") from error
    place = namespace or api.namespace
    try:
        return await read(api, place), place
    except ClusterError as error:
        raise InputError(_sentence(error, verb, place)) from error
    finally:
        await api.close()


def _cluster(api: ApiServer) -> KubernetesCluster:
    return KubernetesCluster(api, identity="serin-prompt", may_write=lambda: False)


async def _require_kind(api: ApiServer) -> None:
    """The API server answers 404 both for an unknown kind and for a missing object."""
    try:
        await api.request("GET", f"/apis/{API_VERSION}")
    except NotFound as error:
        raise InputError(
            "The cluster does not have the kind PromptVersion; install the chart serin-crds, or choose another "
            "cluster with --context."
        ) from error
    except Forbidden:
        return


def _sentence(error: ClusterError, verb: str, namespace: str) -> str:
    """What a person can do; the messages of the error itself speak of the operator, which retries."""
    cause = error.__cause__
    status = getattr(cause, "status", None)
    if status == 401:
        return "The API server rejected the credentials of the kubeconfig; log in again, or give another --context."
    if isinstance(error, Forbidden):
        return (
            f"You may not {verb} PromptVersions in namespace {namespace} ({_said(error)}); ask for the verbs get and "
            "list on promptversions.serin.dev."
        )
    if status:
        return f"The API server answered with HTTP {status} ({_said(error)}); try again, or check the API server."
    if isinstance(cause, TimeoutError):
        return f"The API server did not answer within {LIMIT_SECONDS:g} s; check the network and the API server."
    reason = " ".join(str(cause or error).split())[:300]
    return f"The API server cannot be reached ({reason}); check the server of the kubeconfig, and the network."


def _said(error: ClusterError) -> str:
    """The API server's own words."""
    return str(error).partition(": ")[2].rpartition(";")[0] or "no reason given"
