"""HTTP sessions for queries: form in the body, no redirects, a size limit, a deadline, and their own TLS trust.

Called by `serin.metric_sources.connection`. requests and urllib3 have none of these limits: without them one slow or
endless answer blocks a thread or fills the memory of the operator.
"""

from __future__ import annotations

import io
import ssl
import time
import zlib
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

MAX_BYTES = 16 * 2**20
"""Largest answer that is read, decompressed."""


class TooLargeError(requests.RequestException):
    """The answer has more than MAX_BYTES."""


class TrustingAdapter(HTTPAdapter):
    """Verifies certificates with one TLS context; requests itself reads certificate authorities only from a file."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=Retry(0))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the connection pools with the TLS context."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The connection pools of a proxy, with the TLS context."""
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """The key of a connection pool, with verification always on."""
        del verify  # it may be a file from the environment, which must not be trusted as well
        return super().build_connection_pool_key_attributes(request, True, cert)  # noqa: FBT003 - its signature

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing, because requests would add its own bundle to the context."""


class QuerySession(requests.Session):
    """A session that sends queries in the body, follows no redirect and reads at most MAX_BYTES before a deadline."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.headers["Accept-Encoding"] = "gzip"  # what `_decoder` knows

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read its whole answer.

        Raises:
            TooLargeError: the answer has more than MAX_BYTES.
            requests.RequestException: the server cannot be reached, is too slow, or its answer is damaged.
        """
        deadline = time.monotonic() + self._seconds
        if method == "POST" and not args and "data" not in kwargs:
            # The client library puts the form into the URL, where proxies log it and limit its length.
            kwargs["data"] = kwargs.pop("params", None)
        response = super().request(method, url, *args, **kwargs | {"allow_redirects": False, "stream": True})
        try:
            body = _read_body(response, deadline)
        except (requests.Timeout, HTTPError) as error:
            response.close()
            late = isinstance(error, requests.Timeout | ReadTimeoutError)
            raise (requests.Timeout if late else requests.ConnectionError) from error
        except requests.RequestException:
            response.close()
            raise
        response.raw.release_conn()
        response.raw = io.BytesIO(body)
        if response.status_code == _OK:
            # The client library decodes the answer with this method; by itself requests makes objects of all of it.
            response.json = lambda **_: decoded(body)  # type: ignore[method-assign]
        return response


class Series(TypedDict, total=False):
    """A row of an answer; whatever else is in it, such as native histograms, is not decoded."""

    metric: msgspec.Raw
    """The labels as JSON, of which `serin.metric_sources.response` decodes what is needed, as of the values."""
    values: msgspec.Raw
    value: tuple[float, str]


class _Data(TypedDict):
    result: list[Series]


class _Answer(TypedDict):
    data: _Data


_ANSWER = msgspec.json.Decoder(_Answer)
_OK = 200


def decoded(body: bytes) -> _Answer:
    """The answer of a Prometheus.

    Raises:
        ValueError: it is not JSON, or not that of a Prometheus.
    """
    try:
        return _ANSWER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its answer cannot be decoded: {error}") from error


def _read_body(response: requests.Response, deadline: float) -> bytes:
    """The decompressed body.

    The deadline is checked here because the timeout of requests starts again with each byte. The body is decompressed
    here because urllib3 has no limit, and 64 KiB can decompress to 64 MiB.
    """
    decode = _decoder(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    while part := response.raw.read1(2**16, decode_content=False):
        body += decode(part, MAX_BYTES + 1 - len(body))
        if time.monotonic() > deadline:
            raise requests.Timeout
        if len(body) > MAX_BYTES:
            raise TooLargeError
    return bytes(body)


def _decoder(encoding: str) -> Callable[[bytes, int], bytes]:
    """A function that decompresses the next part of a body to at most so many bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda part, _most: part
        case "gzip":
            stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

            def decompress(part: bytes, most: int) -> bytes:
                if stream.eof:  # zlib would keep all of it
                    raise requests.RequestException("data after the end of the gzip stream")
                try:
                    return stream.decompress(part, most)
                except zlib.error as error:
                    raise requests.RequestException("the gzip data is damaged") from error

            return decompress
        case _:
            raise requests.RequestException("an encoding that Serin did not request")


class BearerAuth(AuthBase):
    """A bearer token, as an AuthBase so that a .netrc file does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request with the token."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request
