"""Sends tickets at a fixed rate with the official OpenAI client, and records the outcomes.

Open loop: a slow server does not slow down the sender, as real users do not wait for each other. Duration, number of
requests and requests in flight are limited. Nothing is retried, so that every failure is recorded. It runs in a thread
with its own event loop, for callers that are not asynchronous. Not here: counting (outcome).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    OpenAIError,
)
from openai.types.chat import ChatCompletionMessageParam

from examples.load.outcome import Outcome
from model_server.tiny.tickets import Ticket, Variant, instruction, is_good, obeys, ticket

REVISION_HEADER = "x-serin-revision"
PROMPT_HEADER = "x-serin-prompt"
TOO_MANY = "not sent: too many requests in flight"


@dataclass
class Load:
    """One run of the generator; can be started once."""

    url: str
    """The gateway, without `/v1`."""
    model: str
    rps: float
    """Requests per second; may be changed while it runs."""
    seconds: float
    count: int = 10_000
    """Maximum number of requests."""
    concurrency: int = 200
    """Maximum number of requests in flight; a request beyond it is not sent and recorded as failed."""
    timeout: float = 30.0
    """Seconds after which a client gives up, from sending its request to the end of the answer."""
    long_share: float = 0.3
    """Share of tickets with a long thread, 0 to 1."""
    seed: int = 1
    host: str | None = None
    """Host header, if the gateway routes by host name."""
    instructs: bool = True
    """Whether requests have a system message, which asks for JSON; without it a prompt of the pods can. May be changed
    while it runs."""
    _outcomes: list[Outcome] = field(default_factory=list, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _problem: BaseException | None = field(default=None, init=False)

    def start(self) -> None:
        """Start to send."""
        self._thread = threading.Thread(target=self._in_thread, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending, and return when all requests in flight have ended, after at most `timeout` seconds.

        Raises:
            RuntimeError: the generator failed or does not end.
        """
        with self._changed:
            self._stopping = True
            if self._loop is not None:
                # The loop may have just closed; then there is nothing to stop.
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._stop.set)
        self.join()

    def join(self) -> None:
        """Return when the run has ended.

        Raises:
            RuntimeError: the generator failed or does not end.
        """
        if self._thread is None:
            return
        self._thread.join(self.timeout + (0 if self._stopping else self.seconds) + 10)
        if self._thread.is_alive():
            raise RuntimeError("The load generator does not end; kill the process.")
        if self._problem:
            raise RuntimeError(
                f"The load generator failed ({self._problem!r}); correct its arguments."
            ) from self._problem

    def outcomes(self, since: float = 0.0, until: float = float("inf")) -> tuple[Outcome, ...]:
        """Outcomes of finished requests that were sent in [since, until), in seconds since 1970."""
        return tuple(o for o in tuple(self._outcomes) if since <= o.sent_at < until)

    def wait_for(self, enough: Callable[[tuple[Outcome, ...]], bool], timeout: float) -> bool:
        """Wait until `enough` holds for the outcomes, the run ends, or `timeout` seconds pass; returns `enough`."""
        with self._changed:
            self._changed.wait_for(lambda: enough(self.outcomes()) or self._ended, timeout)
        return enough(self.outcomes())

    def _in_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as problem:  # noqa: BLE001 - raised again by join
            self._problem = problem
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def _run(self) -> None:
        numbers, loop = random.Random(self.seed), asyncio.get_running_loop()
        with self._changed:
            self._loop = loop
            if self._stopping:
                return
        headers = {"Host": self.host} if self.host else None
        client = AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key="unused",
            max_retries=0,
            timeout=self.timeout,
            default_headers=headers,
            # No proxy from the environment: it could answer instead of the gateway, or hide failures.
            http_client=DefaultAsyncHttpxClient(trust_env=False, timeout=self.timeout),
        )
        async with client:
            due = began = loop.time()
            in_flight: set[asyncio.Task[None]] = set()
            for _ in range(self.count):
                if due - began >= self.seconds or await self._stopped_before(due):
                    break
                due += 1 / self.rps
                asked = ticket(numbers, long_share=self.long_share)
                if len(in_flight) >= self.concurrency:
                    self._record(Outcome(time.time(), 0.0, None, TOO_MANY, None, None, asked.long))
                    continue
                task = loop.create_task(self._ask(client, asked))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            await asyncio.gather(*in_flight)

    async def _stopped_before(self, moment: float) -> bool:
        """Wait until a time of the loop's clock, or until stop is called; returns whether stop was called."""
        try:
            async with asyncio.timeout_at(moment):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _ask(self, client: AsyncOpenAI, asked: Ticket) -> None:
        sent_at, began = time.time(), time.monotonic()
        status: int | None = None
        error: str | None = None
        revision: str | None = None
        good: bool | None = None
        obeyed: bool | None = None
        prompt: str | None = None
        try:
            # The client's own time limit is one for each read.
            async with asyncio.timeout(self.timeout):
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=self._messages(asked),
                    temperature=0,
                    max_tokens=32,
                )
            status, revision = raw.http_response.status_code, raw.headers.get(REVISION_HEADER)
            prompt = raw.headers.get(PROMPT_HEADER)
            answer = raw.parse().choices[0].message.content or ""
            good, obeyed = is_good(answer, asked), obeys(answer, Variant.JSON)
        except APIStatusError as refused:
            status, revision = refused.status_code, refused.response.headers.get(REVISION_HEADER)
            error = f"HTTP {refused.status_code}: {refused.message[:200]}"
        except (TimeoutError, APITimeoutError):
            error = f"gave up after {self.timeout:g} s"
        except APIConnectionError as broken:
            error = f"{type(broken).__name__}: {broken.__cause__ or broken}"
        except OpenAIError as broken:
            error = f"{type(broken).__name__}: {broken}"
        self._record(
            Outcome(sent_at, time.monotonic() - began, status, error, revision, good, asked.long, obeyed, prompt)
        )

    def _messages(self, asked: Ticket) -> list[ChatCompletionMessageParam]:
        """The messages of a request."""
        user: ChatCompletionMessageParam = {"role": "user", "content": asked.text}
        return [{"role": "system", "content": instruction(Variant.JSON)}, user] if self.instructs else [user]

    def _record(self, outcome: Outcome) -> None:
        with self._changed:
            self._outcomes.append(outcome)
            self._changed.notify_all()
