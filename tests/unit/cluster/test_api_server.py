"""Error answers of the API server become Serin's errors, with the server's message and what to do."""

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException, ApiValueError

from serin.cluster.api_server import ApiServer, _refusal
from serin.cluster.kubernetes_cluster import KubernetesCluster
from serin.cluster.port import DEPLOYMENT
from serin.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (401, Forbidden),
        (403, Forbidden),
        (400, Invalid),
        (422, Invalid),
        (413, Invalid),
        (429, ClusterError),
        (500, ClusterError),
        (503, ClusterError),
        (504, ClusterError),
    ],
)
def test_each_http_status_maps_to_one_error(status: int, kind: type[ClusterError]) -> None:
    error = _refusal("PATCH /apis/x", ApiException(status=status, body=json.dumps({"message": "because of that."})))
    assert type(error) is kind
    assert "PATCH /apis/x" in str(error)
    assert "because of that" in str(error)
    assert str(error).endswith(".")


def test_unknown_field_in_server_side_apply_is_invalid() -> None:
    message = "failed to create typed patch object: .spec.foo: field not declared in schema"
    error = _refusal("PATCH /apis/x", ApiException(status=500, body=json.dumps({"message": message})))
    assert isinstance(error, Invalid)
    assert error.detail == message


@pytest.mark.parametrize(
    "body", [None, "", "<html>", "[]", "{}", "[" * 100_000], ids=["none", "empty", "html", "list", "object", "deep"]
)
def test_body_without_status_object_gives_the_http_reason(body: str | None) -> None:
    error = _refusal("GET /x", ApiException(status=502, reason="Bad Gateway", body=body))
    assert "HTTP 502: Bad Gateway" in str(error)


@pytest.mark.parametrize(
    ("status", "message"),
    [(413, "Request entity too large: limit is 3145728"), (500, "etcdserver: request is too large")],
)
def test_an_object_that_is_too_large_is_refused_for_good(status: int, message: str) -> None:
    error = _refusal("PATCH /apis/x", ApiException(status=status, body=json.dumps({"message": message})))
    assert isinstance(error, Invalid)
    assert str(error).endswith("make the object smaller.")


class Answer:
    def __init__(self, text: str) -> None:
        self.text = text

    async def read(self) -> str:
        return self.text


async def requested(behaviour: Any) -> Any:
    """What one request comes to when the client behaves so: an exception is raised, a text is answered."""

    async def request(*_: Any, **__: Any) -> Answer:
        if isinstance(behaviour, BaseException):
            raise behaviour
        if behaviour is None:
            await asyncio.sleep(60)
        return Answer(behaviour)

    client = ApiClient(Configuration())
    api = ApiServer(client, 0.05)
    api._dynamic.request = request
    try:
        return await KubernetesCluster(api, identity="test").list(DEPLOYMENT, "default", labels={})
    finally:
        await client.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "behaviour",
    [
        None,
        TimeoutError(),
        aiohttp.ServerTimeoutError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("broken off"),
        aiohttp.http_exceptions.BadHttpMessage("not HTTP"),
        asyncio.IncompleteReadError(b"", 4),
        ConnectionResetError(),
        ssl.SSLError("handshake"),
        ApiException(status=0, reason="SSLError"),
        ApiException(status=503),
        ApiValueError("a value that the client refuses"),
        RuntimeError("Session is closed"),
        AttributeError("a defect of the client"),
        "<html>",
        "null",
        "[]",
        "{}",
        '{"items": 1, "metadata": {}}',
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
async def test_whatever_goes_wrong_is_an_error_of_our_tree(behaviour: Any) -> None:
    with pytest.raises(ClusterError) as failure:
        await requested(behaviour)
    assert "Serin retries" in str(failure.value)
    assert "HTTP 0" not in str(failure.value)


async def test_a_request_that_is_cancelled_stays_cancelled() -> None:
    with pytest.raises(asyncio.CancelledError):
        await requested(asyncio.CancelledError())
