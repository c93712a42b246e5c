"""The server of a spec and its Secret; errors name what is wrong and show no secret."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from serin.api.analysis import PrometheusServer
from serin.errors import MetricsError
from serin.metric_sources.port import Server
from serin.metric_sources.server import server

URL = "https://prometheus.example.com:9090/prefix"


def spec(**changes: Any) -> PrometheusServer:
    return PrometheusServer.model_validate({"url": URL} | changes)


NAMED = spec(authSecretRef={"name": "access"})


def secret(**data: str) -> Mapping[str, Any]:
    named = {key.replace("_", "."): value for key, value in data.items()}
    return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in named.items()}}


def test_without_prometheus_in_the_spec_the_operators_server_is_read() -> None:
    assert server(None, None) is None


def test_server_without_a_secret_has_url_and_headers() -> None:
    found = server(spec(url=f"{URL}/", headers={"X-Scope-OrgID": "a", "A-First": "b"}), None)
    assert found == Server(url=URL, headers=(("A-First", "b"), ("X-Scope-OrgID", "a")))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param({"token": "t0k"}, {"bearer_token": "t0k"}, id="a token"),
        pytest.param({"token": "t0k\n"}, {"bearer_token": "t0k"}, id="a token with a newline"),
        pytest.param({"username": "u", "password": "p"}, {"basic_auth": ("u", "p")}, id="a user"),
        pytest.param({"ca_crt": "PEM"}, {"ca": "PEM"}, id="only authorities"),
        pytest.param({"token": "t", "ca_crt": "PEM"}, {"bearer_token": "t", "ca": "PEM"}, id="both"),
        pytest.param({"token": "t", "note": "for Serin"}, {"bearer_token": "t"}, id="with something else"),
    ],
)
def test_secret_may_have_these_keys(data: dict[str, str], expected: dict[str, Any]) -> None:
    assert server(NAMED, secret(**data)) == Server(url=URL, **expected)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        pytest.param(None, "does not exist; create it", id="no Secret"),
        pytest.param({}, "correct its keys", id="an empty one"),
        pytest.param({"data": None}, "correct its keys", id="null data"),
        pytest.param(secret(other="x"), "correct its keys", id="other keys"),
        pytest.param(secret(username="u"), "correct its keys", id="a user without a password"),
        pytest.param(secret(password="p"), "correct its keys", id="a password without a user"),
        pytest.param(secret(username="u", password="p", token="t"), "correct its keys", id="a user and a token"),
        pytest.param(
            {"data": {"token": "%%%"}},
            "Key token of Secret access is not UTF-8 text",
            id="no base64",
        ),
        pytest.param(
            {"data": {"token": "/w=="}},
            "Key token of Secret access is not UTF-8 text",
            id="no UTF-8",
        ),
    ],
)
def test_unusable_secret_is_named(found: Mapping[str, Any] | None, sentence: str) -> None:
    with pytest.raises(MetricsError, match=sentence) as caught:
        server(NAMED, found)
    assert "Secret access" in str(caught.value)


def test_no_secret_is_in_repr_or_message() -> None:
    found = server(
        spec(headers={"X-Key": "hush-1"}, authSecretRef={"name": "access"}),
        secret(username="hush-2", password="hush-3", ca_crt="hush-4"),
    )
    assert "hush" not in repr(found)
    assert "hush" not in repr(Server(url=URL, bearer_token="hush"))
    with pytest.raises(MetricsError) as caught:
        server(NAMED, secret(username="hush"))
    assert "hush" not in str(caught.value)
