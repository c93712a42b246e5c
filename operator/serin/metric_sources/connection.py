"""A connection to one Prometheus server over HTTP: sends a query, returns rows, turns each failure into one sentence.

Called by `serin.metric_sources.prometheus`; `serin.metric_sources.queries` writes the queries. Secrets appear in no log
and no message, and are not sent to another server, because redirects are not followed.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from serin.errors import MetricsError
from serin.metric_sources.http_session import MAX_BYTES, BearerAuth, QuerySession, TooLargeError, TrustingAdapter
from serin.metric_sources.port import RefusedError, Server, TooLargeAnswerError

TENANT = "X-Scope-OrgID"
"""The only header whose value is not masked in messages: a tenant may be called 1, as many numbers in them are."""
_HTTP_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?")
_REFUSED_CODES = ("400", "422")
_REDIRECT_CODES = ("301", "302", "303", "307", "308")


class Link(Protocol):
    """A connection to one server, as the metric source uses it."""

    used: float
    """Time of the last query, on the monotonic clock."""

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        """The rows that an instant query returns; see `Connection.query`."""

    def close(self) -> None:
        """Close all that is open."""


class Connect(Protocol):
    """Makes a connection to a server: `Connection`, or a replacement in tests."""

    def __call__(self, server: Server, *, timeout: float, ca_file: str = "") -> Link:
        """A new connection; see `Connection`."""


MAX_DETAIL = 4096
"""Characters of a failed answer in which Prometheus' own message is searched."""


class Connection:
    """A connection to one server.

    Args:
        server: URL and credentials.
        timeout: seconds from sending a query to the last byte of its answer.
        ca_file: file of certificate authorities, for a server that has none of its own; "" for those of the system.

    Raises:
        MetricsError: the certificate authorities are not PEM, or a header or the token is not valid in HTTP.
    """

    def __init__(self, server: Server, *, timeout: float, ca_file: str = "") -> None:
        self.used = time.monotonic()
        self._server = server
        self._timeout = timeout
        self._url = _without_credentials(server.url)
        token = (server.bearer_token or "").strip()
        if not all(
            _HTTP_VALUE.fullmatch(text) for text in (token, *(part for header in server.headers for part in header))
        ):
            # Checked here because the HTTP client would show the secret in its message.
            raise MetricsError(
                f"A header or the token for Prometheus at {self._url} has characters that HTTP does not allow; check "
                "it for line breaks."
            )
        adapter = None if server.ca is None else TrustingAdapter(self._context(server.ca))
        session = QuerySession(timeout)
        if ca_file and server.ca is None:
            session.verify = ca_file
        auth: AuthBase | None = None
        if server.basic_auth is not None:
            auth = HTTPBasicAuth(*(part.encode() for part in server.basic_auth))
        elif server.bearer_token is not None:
            auth = BearerAuth(token)
        self._client = PrometheusConnect(
            url=server.url.rstrip("/"),
            headers=dict(server.headers),
            auth=auth,
            session=session,
            retry=Retry(0),  # the collector repeats the query anyway, and a retry here would delay it
            method="POST",
            timeout=timeout,
        )
        if adapter:
            # In the place of the adapter that the client library has just mounted, and where a path with dot segments,
            # which requests resolves, no longer begins with the URL.
            for prefix in (server.url.rstrip("/"), "https://"):
                session.mount(prefix, adapter)
        # Threads of its own: a server that sends its answer slowly can block these two, and no other server's.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prometheus")

    def close(self) -> None:
        """Close the threads and the HTTP connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def query(self, query: str, at: int | None = None) -> list[Any]:
        """The rows that an instant query returns.

        Args:
            query: in PromQL.
            at: evaluation time in milliseconds since 1970; None: the current time of the server.

        Raises:
            RefusedError: the server refuses this query.
            MetricsError: the server cannot be reached, is slow, rejects the credentials, or is not a Prometheus.
        """
        self.used = time.monotonic()
        # Without it Thanos omits series instead of failing; Prometheus ignores it.
        form = {"timeout": f"{self._timeout:g}s", "partial_response": "false"}
        if at is not None:
            form["time"] = f"{at // 1000}.{at % 1000:03d}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.run_in_executor(self._threads, self._client.custom_query, query, form)
        except (TimeoutError, requests.Timeout) as error:
            raise MetricsError(
                f"Prometheus at {self._url} did not answer within {self._timeout:g} s; check its load."
            ) from error
        except TooLargeError as error:
            raise TooLargeAnswerError(
                f"Prometheus at {self._url} sent more than {MAX_BYTES // 2**20} MiB; narrow the selector."
            ) from error
        except requests.exceptions.SSLError as error:
            raise MetricsError(
                f"Prometheus at {self._url} failed TLS verification ({self._detail(error)}); check its certificate and "
                "the certificate authorities."
            ) from error
        except requests.ConnectionError as error:
            raise MetricsError(
                f"Prometheus at {self._url} cannot be reached; check that it runs and that the URL is right."
            ) from error
        except PrometheusApiClientException as error:
            raise self._status_error(error) from error
        except (requests.RequestException, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise MetricsError(
                f"The server at {self._url} is not a Prometheus ({self._detail(error)}); check the URL."
            ) from error
        if not isinstance(found, list):
            raise MetricsError(f"The server at {self._url} is not a Prometheus (no result); check the URL.")
        return found

    def _status_error(self, error: Exception) -> MetricsError:
        """The error for an answer whose HTTP status is not 200."""
        code = str(error).removeprefix("HTTP Status Code ")[:3]
        detail = self._detail(error)
        if code in _REFUSED_CODES:
            return RefusedError(
                f"Prometheus at {self._url} refused a query ({detail}); check the selector, then its log."
            )
        if code in {"401", "403"}:
            return MetricsError(f"Prometheus at {self._url} rejected the credentials ({detail}); correct them.")
        if code in _REDIRECT_CODES:
            return MetricsError(
                f"Prometheus at {self._url} redirects to another URL ({detail}), and redirects are not followed; set "
                "the URL that it redirects to."
            )
        return MetricsError(f"Prometheus at {self._url} failed ({detail}); check its log.")

    def _detail(self, error: Exception) -> str:
        """The cause, with secrets masked: Prometheus' own message, or only the HTTP status if it has none."""
        # Masked first, or a secret could be cut and stay; then bounded, since the search below takes quadratic time.
        text = self._masked(str(error))[:MAX_DETAIL].partition("\n")[0] or type(error).__name__
        if text.startswith("HTTP Status Code"):
            # The client library shows the body as the repr of bytes, so each backslash is doubled.
            own = re.search(r'"errorType":.*?"error":\s*"(.*)"', text)
            text = own[1].replace('\\\\"', '"') if own else text[: len("HTTP Status Code 000")]
        return self._masked(text)[:300]

    def _masked(self, text: str) -> str:
        """The text without the secrets of this server."""
        server = self._server
        secrets = [value for name, value in server.headers if name != TENANT]
        secrets += [server.bearer_token or "", *(server.basic_auth or ())[1:], urlsplit(server.url).password or ""]
        # The longest first, because one secret may be a part of another.
        for secret in sorted(filter(None, map(str.strip, secrets)), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _context(self, pem: str) -> ssl.SSLContext:
        """A TLS context that trusts only these certificate authorities."""
        try:
            return ssl.create_default_context(cadata=pem)
        except (ssl.SSLError, ValueError) as error:
            raise MetricsError(
                f"The certificate authorities for Prometheus at {self._url} are not PEM certificates; correct ca.crt."
            ) from error


def _without_credentials(url: str) -> str:
    """The URL without user and password."""
    try:
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    except ValueError:
        raise MetricsError("The URL of a Prometheus server is not a URL; correct it.") from None
