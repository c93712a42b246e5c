"""Plain requests at a high rate over connections that stay open, and long streaming answers; every failure is recorded.

Callers: the end-to-end tests and `bench.rollback`. Rate, count, connections and patience are bounded. Not here: the
OpenAI client, which applications use and which is too slow for thousands of requests per second (`examples.load`).
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from examples.demo.cluster import Cluster
from examples.demo.errors import WaitFailedError
from examples.demo.place import Place
from examples.light.story import NAME, host

PATH = "/v1/chat/completions"
REVISION_HEADER = "x-serin-revision"
"""In answers, only with `routing.revealRevision`, as in `story.manifest`."""
PROMPT_HEADER = "x-serin-prompt"
"""In answers beside the revision, as `triage@1.4.0`, where the revision has a prompt."""
KEYS = {"queue", "priority"}
"""The keys of a right answer; the light engine gives other ones where a prompt says so (`examples.light.prompts`)."""
MARK = "told to fail"
"""In the body of an error that the light engine made because it was asked to."""


@dataclass(frozen=True)
class Failure:
    """A request without a good answer."""

    after: float
    """Seconds since the traffic began."""
    status: int | None
    revision: str | None
    """The revision that answered; None if answers do not reveal it."""
    text: str
    gave_up: bool = False
    """Whether the client left because it had waited long enough."""

    def was_made_by(self, revisions: set[str]) -> bool:
        """Whether an engine of these revisions failed on purpose, rather than something between client and engine."""
        return self.status == 500 and MARK in self.text and self.revision in revisions


@dataclass
class Traffic:
    """A context manager: the body runs while requests are sent; its end waits for those under way."""

    place: Place
    cluster: Cluster
    rate: float
    """Requests per second, all connections together."""
    limit: int = 300_000
    connections: int = 16
    """Requests at a time, at most; requests that hang take up one each until their clients give up."""
    timeout: float = 120.0
    """Seconds after which a client gives up."""
    asks: str = "vpn"
    """The content of every request from now on."""
    tokens: int | None = None
    """Tokens of each answer; None for the engine's own number."""
    answered: Counter[str] = field(default_factory=Counter)
    """Good answers by revision; under `""` if answers do not reveal it."""
    failures: list[Failure] = field(default_factory=list)
    last_sent: dict[str, float] = field(default_factory=dict)
    """By revision: when the last request that it answered was sent, in seconds since the traffic began."""
    first_answered: dict[str, float] = field(default_factory=dict)
    """By revision: when its first good answer was received, in seconds since the traffic began."""
    wrong: dict[str, list[float]] = field(default_factory=dict)
    """By revision: when answers with status 200 and wrong keys were received, in seconds since the traffic began."""
    prompts: dict[str, set[str]] = field(default_factory=dict)
    """By revision: the prompts that its answers named."""
    _began: float = 0.0
    _sent: int = 0
    _stopping: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Traffic:
        """Begin to send."""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Send no more requests and wait for those under way."""
        self._stopping = True
        if self._thread:
            self._thread.join(self.timeout + 30)

    @property
    def ended(self) -> int:
        """How many requests have ended, good or bad."""
        return sum(self.answered.values()) + len(self.failures)

    @property
    def elapsed(self) -> float:
        """Seconds since the traffic began."""
        return time.monotonic() - self._began

    def wait_for(self, more: int, seconds: float) -> None:
        """Wait until `more` further requests have ended."""
        self.wait_until(self.ended + more, seconds)

    def wait_until(self, wanted: int, seconds: float) -> None:
        """Wait until `wanted` requests have ended since the beginning."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.ended >= wanted, seconds)
        if not reached:
            raise WaitFailedError(f"Only {self.ended} of {wanted} requests ended in {seconds:.0f} s; see the pods.")

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=self.connections)
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._send(session) for _ in range(self.connections)))

    async def _send(self, session: aiohttp.ClientSession) -> None:
        """One connection's share: take the next request, wait until it is due, send it."""
        headers = {"Host": host(self.cluster), "Content-Type": "application/json"}
        while not self._stopping and self._sent < self.limit:
            due = self._sent / self.rate
            self._sent += 1
            if (early := due - self.elapsed) > 0:
                await asyncio.sleep(early)
            asked: dict[str, object] = {"model": NAME, "messages": [{"role": "user", "content": self.asks}]}
            if self.tokens is not None:
                asked["max_tokens"] = self.tokens
            body = json.dumps(asked).encode()
            status, revision, prompt, text, gave_up = None, None, None, "", False
            sent = self.elapsed
            try:
                async with session.post(f"{self.place.gateway_url}{PATH}", data=body, headers=headers) as answer:
                    status, revision = answer.status, answer.headers.get(REVISION_HEADER)
                    prompt = answer.headers.get(PROMPT_HEADER)
                    text = await answer.text()
            except (aiohttp.ClientError, TimeoutError) as error:
                status, text, gave_up = None, repr(error), isinstance(error, TimeoutError)
            with self._changed:
                if revision:
                    self.last_sent[revision] = max(sent, self.last_sent.get(revision, 0.0))
                    if prompt:
                        self.prompts.setdefault(revision, set()).add(prompt)
                if status == 200:
                    self._note_answer(revision or "", text)
                else:
                    self.failures.append(Failure(self.elapsed, status, revision, text[:300], gave_up))
                self._changed.notify_all()

    def _note_answer(self, revision: str, text: str) -> None:
        self.answered[revision] += 1
        self.first_answered.setdefault(revision, self.elapsed)
        if has_wrong_keys(text):
            self.wrong.setdefault(revision, []).append(self.elapsed)


def has_wrong_keys(text: str) -> bool:
    """Whether a body is not a chat completion whose content is an object with the right keys."""
    try:
        return bool(json.loads(json.loads(text)["choices"][0]["message"]["content"]).keys() != KEYS)
    except (ValueError, LookupError, TypeError, AttributeError):
        return True


class Stream:
    """One streaming answer, read in a thread of its own; open when the constructor returns."""

    def __init__(self, place: Place, cluster: Cluster, seconds: float) -> None:
        address = urlsplit(place.gateway_url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=seconds + 30)
        body = {"model": NAME, "stream": True, "prompt": f"stream-seconds={seconds}"}
        self._began = time.monotonic()
        headers = {"Host": host(cluster), "Content-Type": "application/json"}
        self._connection.request("POST", "/v1/completions", json.dumps(body), headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.revision = self._answer.headers.get(REVISION_HEADER)
        self.took = 0.0
        """Seconds from the request to the end of the answer."""
        self.problem: str | None = None
        """How the answer was cut; None if it was complete."""
        self._thread = threading.Thread(target=self._read, name="stream")
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the answer has not ended yet."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise WaitFailedError(f"A stream did not end in {seconds:.0f} s; see the pod that it reads from.")

    def _read(self) -> None:
        last = ""
        try:
            for line in self._answer:
                last = line.decode().strip() or last
            if last != "data: [DONE]":
                self.problem = f"its last event is {last!r}"
        except (OSError, http.client.HTTPException) as error:
            self.problem = repr(error)
        finally:
            self.took = time.monotonic() - self._began
            self._connection.close()


def open_streams(place: Place, cluster: Cluster, seconds: float, *, at_least: int, revisions: set[str]) -> list[Stream]:
    """Open streams until each of these revisions has `at_least`; a stream that fails at once is not counted."""
    streams: list[Stream] = []
    for _ in range(30 * at_least):
        stream = Stream(place, cluster, seconds)
        if stream.status == 200:
            streams.append(stream)
        else:
            stream.join(10)
        have = Counter(s.revision for s in streams)
        if all(have[revision] >= at_least for revision in revisions):
            return streams
    raise WaitFailedError(
        f"Streams reached only {dict(have)}, and each of {revisions} needs {at_least}; see the route."
    )
