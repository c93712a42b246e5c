"""A connection to the API server: requests with a time limit, failures as errors of `serin.errors`.

Used by the cluster adapter and the election. Callers build the paths, so no API discovery is needed. Requests are not
retried; the work queue retries whole reconciles.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.dynamic import DynamicClient

from serin.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, SettingsError

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
_REFUSED_FOR_GOOD = (
    "failed to create typed patch object",  # what server-side apply says of a field that the schema does not know
    "request is too large",  # what etcd says
)
"""Answers that come as internal errors, and come again however often the request is repeated."""


class ApiServer:
    """A connection; `await ApiServer.connect()` opens it, `close` closes it."""

    def __init__(self, client: ApiClient, limit: float, namespace: str = "default") -> None:
        self.namespace = namespace
        """Namespace of the credentials: of the pod, or of the kubeconfig's context."""
        self._client = client
        # Not awaited on purpose: awaiting it would discover every API group.
        self._dynamic = DynamicClient(client)  # type: ignore[no-untyped-call]
        self._limit = limit

    @classmethod
    async def connect(cls, limit: float, *, context: str | None = None) -> ApiServer:
        """Connect with the pod's ServiceAccount, or with KUBECONFIG outside a pod.

        Args:
            limit: time limit of each request, in seconds.
            context: context of the kubeconfig, also inside a pod; None: the pod's ServiceAccount, or the current one.

        Raises:
            SettingsError: neither is available.
        """
        configuration = Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and context is None:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                namespace = _namespace_of_pod()
            else:
                # Set explicitly, because the library computes its default at import.
                file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
                loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=file, client_configuration=configuration, context=context
                )
                namespace = str(loader.current_context["context"].get("namespace") or "")
        except (ConfigException, OSError, yaml.YAMLError) as error:
            raise SettingsError(
                f"No credentials for the API server were found ({error}); "
                "run in a pod with a ServiceAccount, or set KUBECONFIG."
            ) from error
        # Retries in the library would hide a slow API server from the election.
        configuration.retries = None
        return cls(ApiClient(configuration), limit, namespace or "default")

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        limit: float | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the decoded JSON of the answer.

        Raises:
            NotFound, Conflict, Forbidden, Invalid: according to the status of the answer.
            ClusterError: any other failure, including no answer within the time limit.
        """
        what = f"{method} {path}"
        limit = limit or self._limit
        try:
            # The inner limit covers the socket, the outer one everything else, such as credential plugins.
            async with asyncio.timeout(limit):
                response = await self._dynamic.request(
                    method,
                    path,
                    body=body,
                    query_params=list((query or {}).items()),
                    content_type=content_type,
                    _request_timeout=aiohttp.ClientTimeout(total=limit),
                    serialize=False,
                )
                answer = json.loads(await response.read())
        except Exception as error:  # whatever the client raises, callers know one tree only
            raise cluster_error(what, error, limit) from error
        if not isinstance(answer, dict):
            raise ClusterError(f"The API server did not answer {what} with a JSON object; Serin retries.")
        return answer


def _namespace_of_pod() -> str:
    try:
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def cluster_error(what: str, error: Exception, limit: float) -> ClusterError:
    """The error of our own tree for any failure of a request.

    Args:
        what: method and path of the request.
        error: what the client raised: an answer of the server, a timeout, a broken connection, or a defect of its own.
        limit: seconds that the request was given.
    """
    if isinstance(error, ApiException) and error.status:  # without one, no answer came: TLS has failed
        return _refusal(what, error)
    if isinstance(error, TimeoutError):
        return ClusterError(
            f"The API server did not answer {what} within {limit:g} s; Serin retries, check the API server."
        )
    return ClusterError(
        f"{what} did not reach the API server ({type(error).__name__}: {error}); "
        "Serin retries, check the network and the API server."
    )


def _refusal(what: str, error: ApiException) -> ClusterError:
    detail = _detail(error)
    match error.status:
        case 404:
            return NotFound(f"{what}: not found ({detail}); if a kind is missing, install its CRD.")
        case 409 | 412:
            return Conflict(f"{what}: conflict ({detail}); Serin reads the object again and retries.")
        case 401 | 403:
            return Forbidden(
                f"{what} is forbidden: {detail}; grant the permission, or change the quota or policy in the message."
            )
        case 400 | 413 | 422:
            pass
        case 500 if any(said in detail for said in _REFUSED_FOR_GOOD):
            pass
        case _:
            return ClusterError(f"{what} failed with HTTP {error.status}: {detail}; Serin retries.")
    cure = "make the object smaller" if "too large" in detail.lower() else "correct the field in the message"
    return Invalid(f"{what} was rejected: {detail}; {cure}.", detail)


def _detail(error: ApiException) -> str:
    """The API server's message, from the Status object in the body."""
    body = error.body if isinstance(error.body, str | bytes) else b""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = error.reason or "no reason given"
    return str(message).rstrip(".")
