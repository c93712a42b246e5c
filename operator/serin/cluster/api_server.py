"""One connection to the API server: requests with a bound in time, failures as sentences of our own error tree.

Used by the cluster adapter and the election. Paths are built by the callers, so no discovery is needed: Serin knows
the few kinds it deals with. Retries are not here: the work queue repeats whole reconciles.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.dynamic import DynamicClient

from serin.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, SettingsError

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
_REFUSED_FOR_GOOD = (
    "failed to create typed patch object",  # what server-side apply says of a field that the schema does not know
    "request is too large",  # what etcd says
)
"""Answers that come as internal errors, and come again however often the request is repeated."""


class ApiServer:
    """A connection; `await ApiServer.connect()` makes one, `close` ends it."""

    def __init__(self, client: ApiClient, limit: float) -> None:
        self._client = client
        # Not awaited, and that is on purpose: awaiting it would run the discovery of every API group.
        self._dynamic = DynamicClient(client)  # type: ignore[no-untyped-call]
        self._limit = limit

    @classmethod
    async def connect(cls, limit: float) -> ApiServer:
        """Connect with the pod's ServiceAccount, else with KUBECONFIG; no request takes longer than `limit` seconds.

        Raises:
            SettingsError: neither is there.
        """
        configuration = Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST"):
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                # Named, because the library's own default is fixed when it is imported.
                file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=file, client_configuration=configuration
                )
        except (ConfigException, OSError) as error:
            raise SettingsError(
                f"No way to the API server was found ({error}); run in a pod with a ServiceAccount, or set KUBECONFIG."
            ) from error
        # A retry below us would hide a slow API server from the election.
        configuration.retries = None
        return cls(ApiClient(configuration), limit)

    async def close(self) -> None:
        """Close what is open."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        limit: float | None = None,
    ) -> dict[str, Any]:
        """The answer's JSON.

        Raises:
            NotFound, Conflict, Forbidden, Invalid: the server's answer.
            ClusterError: anything else, no answer in time included.
        """
        what = f"{method} {path}"
        limit = limit or self._limit
        try:
            # The inner bound covers the socket, the outer one everything else, credential plugins included.
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
            raise ClusterError(f"The API server answered {what} with something that is no object; it is tried again.")
        return answer


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
            f"The API server did not answer {what} within {limit:g} s; it is tried again, check its health."
        )
    return ClusterError(
        f"The API server could not be asked for {what} ({type(error).__name__}: {error}); "
        "it is tried again, check the network and the server."
    )


def _refusal(what: str, error: ApiException) -> ClusterError:
    detail = _detail(error)
    match error.status:
        case 404:
            return NotFound(f"{what}: not found ({detail}); look again, or install what is missing.")
        case 409 | 412:
            return Conflict(f"{what}: {detail}; look again and decide anew.")
        case 401 | 403:
            return Forbidden(f"{what} is forbidden: {detail}; grant it, or lift the quota or policy that is named.")
        case 400 | 413 | 422:
            pass
        case 500 if any(said in detail for said in _REFUSED_FOR_GOOD):
            pass
        case _:
            return ClusterError(f"{what} failed with HTTP {error.status}: {detail}; it is tried again.")
    cure = "make the object smaller" if "too large" in detail.lower() else "change the field that is named"
    return Invalid(f"{what} was refused: {detail}; {cure}.", detail)


def _detail(error: ApiException) -> str:
    """The API server's own message, from the Status object in the body."""
    body = error.body if isinstance(error.body, str | bytes) else b""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = error.reason or "no reason given"
    return str(message).rstrip(".")
