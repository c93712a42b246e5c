"""The Prometheus server that an LLMDeployment names, with the credentials of its Secret. Pure.

Called by the reconciler. Messages name the Secret and its keys, never a value.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serin.errors import MetricsError
from serin.metric_sources.port import Server

if TYPE_CHECKING:
    from serin.api.analysis import PrometheusServer


def server(spec: PrometheusServer | None, secret: Mapping[str, Any] | None) -> Server | None:
    """The server of `spec.analysis.prometheus`; None for the server of the operator's settings.

    Args:
        spec: `spec.analysis.prometheus`.
        secret: the Secret that it names, as the API server returned it; None if it does not exist.

    Raises:
        MetricsError: the Secret does not exist, or its keys cannot be used.
    """
    if spec is None:
        return None
    url, headers = spec.url.rstrip("/"), tuple(sorted(spec.headers.items()))
    if spec.auth_secret_ref is None:
        return Server(url=url, headers=headers)
    name = spec.auth_secret_ref.name
    if secret is None:
        raise MetricsError(f"Secret {name}, which spec.analysis.prometheus names, does not exist; create it.")
    known = {key: _text(name, key, value) for key, value in (secret.get("data") or {}).items() if key in _KEYS}
    user, password, token, ca = (known.get(key) for key in _KEYS)
    if (user is None) != (password is None) or (user is not None and token is not None) or not known:
        raise MetricsError(f"Secret {name} must hold username and password, or token, or ca.crt; correct its keys.")
    basic = (user, password) if user is not None and password is not None else None
    return Server(url=url, headers=headers, basic_auth=basic, bearer_token=token, ca=ca)


_KEYS = ("username", "password", "token", "ca.crt")


def _text(secret: str, key: str, value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise MetricsError(f"Key {key} of Secret {secret} is not UTF-8 text in base64; correct its value.") from error
