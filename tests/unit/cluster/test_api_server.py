"""An API server's refusals become our errors, with its own words in a sentence that ends with what to do."""

import json

import pytest
from kubernetes.aio.client.exceptions import ApiException

from serin.cluster.api_server import _refusal
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
        (429, ClusterError),
        (500, ClusterError),
        (503, ClusterError),
    ],
)
def test_each_status_is_one_error(status: int, kind: type[ClusterError]) -> None:
    error = _refusal("PATCH /apis/x", ApiException(status=status, body=json.dumps({"message": "because of that."})))
    assert type(error) is kind
    assert "PATCH /apis/x" in str(error)
    assert "because of that" in str(error)
    assert str(error).endswith(".")


def test_a_field_unknown_to_server_side_apply_is_the_users_error() -> None:
    message = "failed to create typed patch object: .spec.foo: field not declared in schema"
    error = _refusal("PATCH /apis/x", ApiException(status=500, body=json.dumps({"message": message})))
    assert isinstance(error, Invalid)
    assert error.detail == message


@pytest.mark.parametrize("body", [None, "", "<html>", "[]", "{}"], ids=["none", "empty", "html", "list", "object"])
def test_a_body_that_is_no_status_falls_back_to_the_reason(body: str | None) -> None:
    error = _refusal("GET /x", ApiException(status=502, reason="Bad Gateway", body=body))
    assert "HTTP 502: Bad Gateway" in str(error)
