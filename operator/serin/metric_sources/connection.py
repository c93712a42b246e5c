"""One Prometheus server over HTTP: a query in, rows out, and every way it can fail as one sentence.

Used by `serin.metric_sources.prometheus`; the queries are made in `serin.metric_sources.queries`. No secret leaves
here: not into a log, not into a sentence, and not to where a redirect points, because none is followed.
"""

from __future__ import annotations

import asyncio
import io
import re
import ssl
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.util.retry import Retry

from serin.errors import MetricsError
from serin.metric_sources.port import Server

MOST_BYTES = 16 * 2**20
"""No answer is larger, decompressed."""
TENANT = "X-Scope-OrgID"
"""The one header that is no secret: a tenant may be called 1, and then any number would hold it."""
_FIT = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")
_REFUSED = ("400", "422")
_MOVED = ("301", "302", "303", "307", "308")


class RefusedError(MetricsError):
    """The server understood and does not carry this query out; others may still be asked."""


class _TooLargeError(requests.RequestException):
    """An answer has more than MOST_BYTES."""


class Link(Protocol):
    """One way into one server, as the source of counts sees it."""

    used: float
    """When it was last asked, by the monotonic clock."""

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        """What an instant query finds; see `Connection.query`."""

    def close(self) -> None:
        """Let go of whatever is open."""


class Connect(Protocol):
    """Makes the way into a server: `Connection`, or a test's stand-in."""

    def __call__(self, server: Server, *, timeout: float, ca_file: str = "") -> Link:
        """A new link; see `Connection`."""


class Connection:
    """A way into one server.

    Args:
        server: where it is and how one gets in.
        timeout: seconds that one answer may take, from the question to its last byte.
        ca_file: authorities in a file, for a server that names none itself; "" for the system's.

    Raises:
        MetricsError: the server's authorities are no PEM, or its headers not fit for HTTP.
    """

    def __init__(self, server: Server, *, timeout: float, ca_file: str = "") -> None:
        self.used = time.monotonic()
        self._server = server
        self._timeout = timeout
        self._where = _shown(server.url)
        token = (server.bearer_token or "").strip()
        if not all(_FIT.fullmatch(text) for text in (token, *(part for header in server.headers for part in header))):
            # What would refuse them further down shows them in its message.
            raise MetricsError(
                f"A header or token for Prometheus at {self._where} is not fit for HTTP; check it for line breaks."
            )
        adapter = None if server.ca is None else _Adapter(self._trust(server.ca))
        session = _Session(timeout)
        if ca_file and server.ca is None:
            session.verify = ca_file
        auth: AuthBase | None = None
        if server.basic_auth is not None:
            auth = HTTPBasicAuth(*(part.encode() for part in server.basic_auth))
        elif server.bearer_token is not None:
            auth = _Bearer(token)
        self._client = PrometheusConnect(
            url=server.url.rstrip("/"),
            headers=dict(server.headers),
            auth=auth,
            session=session,
            retry=Retry(0),  # the collector asks again anyway; a retry would only make it late
            method="POST",
            timeout=timeout,
        )
        if adapter:  # over the one that the client library has just mounted
            session.mount(server.url.rstrip("/"), adapter)
        # Threads of its own, few: a server that drips its answer holds these two, for twice the timeout, and no other.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prometheus")

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        """What an instant query finds.

        Args:
            query: in PromQL.
            at: milliseconds since 1970; None: the server's now.

        Raises:
            RefusedError: the server does not carry this query out.
            MetricsError: it cannot be reached, is slow, lets nobody in, or is no Prometheus.
        """
        self.used = time.monotonic()
        # Thanos would rather leave out series than fail; Prometheus does not know the word and ignores it.
        form = {"timeout": f"{self._timeout:g}s", "partial_response": "false"}
        if at is not None:
            form["time"] = f"{at // 1000}.{at % 1000:03d}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.run_in_executor(self._threads, self._client.custom_query, query, form)
        except (TimeoutError, requests.Timeout) as error:
            raise MetricsError(
                f"Prometheus at {self._where} did not answer within {self._timeout:g} s; check its load."
            ) from error
        except _TooLargeError as error:
            raise RefusedError(
                f"Prometheus at {self._where} sent more than {MOST_BYTES // 2**20} MiB; narrow the selector."
            ) from error
        except requests.exceptions.SSLError as error:
            raise MetricsError(
                f"The certificate of Prometheus at {self._where} does not hold ({self._said(error)}); "
                "check the authorities it is checked against."
            ) from error
        except requests.ConnectionError as error:
            raise MetricsError(
                f"Prometheus at {self._where} cannot be reached; check that it runs and that the URL is right."
            ) from error
        except PrometheusApiClientException as error:
            raise self._failed(error) from error
        except (requests.RequestException, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise MetricsError(
                f"What answers at {self._where} is not a Prometheus ({self._said(error)}); check the URL."
            ) from error
        if not isinstance(found, list):
            raise MetricsError(f"What answers at {self._where} is not a Prometheus (no result); check the URL.")
        return found

    def _failed(self, error: Exception) -> MetricsError:
        """The sentence for an answer that is no success."""
        code = str(error).removeprefix("HTTP Status Code ")[:3]
        said = self._said(error)
        if code in _REFUSED:
            return RefusedError(
                f"Prometheus at {self._where} refused a query ({said}); check the selector, then its log."
            )
        if code in {"401", "403"}:
            return MetricsError(f"Prometheus at {self._where} lets nobody in ({said}); check the credentials.")
        if code in _MOVED:
            return MetricsError(f"Prometheus at {self._where} is elsewhere ({said}); set the URL it redirects to.")
        return MetricsError(f"Prometheus at {self._where} failed ({said}); check its log.")

    def _said(self, error: Exception) -> str:
        """What went wrong, without secrets: Prometheus' own words, or the code alone of whoever else answers there."""
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if text.startswith("HTTP Status Code"):
            # The client library shows the body as the text of bytes, with every backslash doubled.
            own = re.search(r'"errorType":.*?"error":\s*"(.*)"', text)
            text = own[1].replace('\\\\"', '"') if own else text[: len("HTTP Status Code 000")]
        server = self._server
        secrets = [value for name, value in server.headers if name != TENANT]
        secrets += [server.bearer_token or "", *(server.basic_auth or ())[1:], urlsplit(server.url).password or ""]
        # The longest first: one may be a part of another.
        for secret in sorted(filter(None, map(str.strip, secrets)), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text[:300]

    def _trust(self, pem: str) -> ssl.SSLContext:
        """A context that trusts these authorities only."""
        try:
            return ssl.create_default_context(cadata=pem)
        except (ssl.SSLError, ValueError) as error:
            raise MetricsError(
                f"The authorities for Prometheus at {self._where} are no certificates; give them as PEM."
            ) from error


class _Adapter(HTTPAdapter):
    """Checks certificates against one context. requests itself takes authorities from a file only."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(max_retries=Retry(0))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        del verify  # a file that the environment names would be trusted, too
        return super().build_connection_pool_key_attributes(request, True, cert)  # noqa: FBT003 - its signature

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to add: requests would let the context trust its own bundle, too."""


class _Session(requests.Session):
    """A session that says little and hears no more than it asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.headers["Accept-Encoding"] = "gzip"  # what `_decoder` knows

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        deadline = time.monotonic() + self._seconds
        if method == "POST" and not args and "data" not in kwargs:
            # The client library would put what belongs into the body into the URL.
            kwargs["data"] = kwargs.pop("params", None)
        response = super().request(method, url, *args, **kwargs | {"allow_redirects": False, "stream": True})
        try:
            body = _all_of(response, deadline)
        except (requests.Timeout, HTTPError) as error:
            response.close()
            late = isinstance(error, requests.Timeout | ReadTimeoutError)
            raise (requests.Timeout if late else requests.ConnectionError) from error
        except requests.RequestException:
            response.close()
            raise
        response.raw.release_conn()
        response.raw = io.BytesIO(body)
        return response


def _all_of(response: requests.Response, deadline: float) -> bytes:
    """The body, decompressed. The timeout of requests begins anew with every byte; this one ends the thread.

    Decompressed here: urllib3 has no bound, and 64 KiB may hold 64 MiB.
    """
    decode = _decoder(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    while part := response.raw.read1(2**16, decode_content=False):
        body += decode(part, MOST_BYTES + 1 - len(body))
        if time.monotonic() > deadline:
            raise requests.Timeout
        if len(body) > MOST_BYTES:
            raise _TooLargeError
    return bytes(body)


def _decoder(encoding: str) -> Callable[[bytes, int], bytes]:
    """Decodes the next part of a body, to at most so many bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda part, _most: part
        case "gzip":
            stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

            def decompress(part: bytes, most: int) -> bytes:
                try:
                    return stream.decompress(part, most)
                except zlib.error as error:
                    raise requests.RequestException("the gzip is damaged") from error

            return decompress
        case _:
            raise requests.RequestException("an encoding that Serin did not ask for")


class _Bearer(AuthBase):
    """A bearer token; as an AuthBase, so that a .netrc does not replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _shown(url: str) -> str:
    """The URL without user and password."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    except ValueError:
        raise MetricsError("The URL of a Prometheus is none; correct it.") from None
