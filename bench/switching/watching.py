"""Watches a split document in its ConfigMap and in the pods that read it. Asks the API server only, through its proxy.

Used by `bench.switching`. `Splits` is what was seen; `Watcher` a context in which a thread looks.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp

from examples.demo.cluster import Cluster
from examples.demo.errors import WaitFailedError
from sandbox.host.kubectl import Kubectl
from serin.manifests.split_document import SplitDocument, parse_document

EVERY = 0.25
"""Seconds between two looks at all pods; a pod is seen to switch at most so much too late, and the time of a look."""
_SHOWN = re.compile(r'^serin_split_info\{.*?digest="([0-9a-f]+)".*?\} 1', re.MULTILINE)
_SERVING = re.compile(r"127\.0\.0\.1:(\d+)")


@dataclass
class Splits:
    """What was seen: the documents in order, and which of them each pod showed."""

    documents: list[tuple[float, SplitDocument]] = field(default_factory=list)
    """When each document was stored, on the monotonic clock, and the document."""
    shown: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    """By pod: when it was first seen with a digest, and the digest."""

    def store(self, at: float, document: SplitDocument) -> None:
        """Add a document, if it is another one."""
        if not self.documents or self.documents[-1][1].digest != document.digest:
            self.documents.append((at, document))

    def show(self, at: float, pod: str, digest: str) -> None:
        """Add what a pod shows, if it is another one."""
        before = self.shown.setdefault(pod, [])
        if not before or before[-1][1] != digest:
            before.append((at, digest))

    def seconds(self, number: int) -> list[float]:
        """How long after a document was stored each pod showed it or a later one, ascending; others are left out."""
        stored_at = self.documents[number][0]
        wanted = {document.digest for _, document in self.documents[number:]}
        times = (next((at for at, digest in of if digest in wanted), None) for of in self.shown.values())
        return sorted(at - stored_at for at in times if at is not None)


@contextmanager
def _proxy(cluster: Cluster) -> Iterator[int]:
    """The port of `kubectl proxy` on this machine."""
    kubectl = Kubectl(cluster.environment, [])
    with subprocess.Popen(
        kubectl.command("proxy", "--port=0"), stdout=subprocess.PIPE, text=True, env=dict(cluster.environment)
    ) as proxy:
        try:
            started = _SERVING.search(proxy.stdout.readline() if proxy.stdout else "")
            if started is None:
                raise WaitFailedError("`kubectl proxy` did not start; run it by hand to see why.")
            yield int(started[1])
        finally:
            proxy.terminate()


@dataclass
class Watcher:
    """A context manager: a thread watches the ConfigMap and the pods of one engine revision."""

    cluster: Cluster
    config_map: str
    pods: list[str]
    port: int
    splits: Splits = field(default_factory=Splits)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _cleanup: ExitStack = field(default_factory=ExitStack)
    _done: Future[None] | None = None

    def __enter__(self) -> Watcher:
        """Begin to look."""
        with ExitStack() as cleanup:
            executor = cleanup.enter_context(ThreadPoolExecutor(1, "watcher"))
            port = cleanup.enter_context(_proxy(self.cluster))
            cleanup.callback(self._stopping.set)
            api = f"http://127.0.0.1:{port}/api/v1/namespaces/{self.cluster.namespace}"
            self._done = executor.submit(lambda: asyncio.run(self._watch(api)))
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop to look; raises what ended the thread, if something did."""
        self._stopping.set()
        with self._cleanup:
            if self._done:
                self._done.result(30)

    async def _watch(self, api: str) -> None:
        connector, timeout = aiohttp.TCPConnector(limit=len(self.pods) + 1), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            follow = asyncio.create_task(self._follow(session, api))
            try:
                while not self._stopping.is_set():
                    await asyncio.gather(*(self._ask(session, api, pod) for pod in self.pods))
                    if follow.done():
                        follow.result()
                    await asyncio.sleep(EVERY)
            finally:
                follow.cancel()
                with suppress(asyncio.CancelledError):
                    await follow

    async def _follow(self, session: aiohttp.ClientSession, api: str) -> None:
        url = f"{api}/configmaps?watch=1&fieldSelector=metadata.name={self.config_map}"
        async with session.get(url) as answer:
            async for line in answer.content:
                self.splits.store(time.monotonic(), parse_document(json.loads(line)["object"]["data"]["split.json"]))

    async def _ask(self, session: aiohttp.ClientSession, api: str, pod: str) -> None:
        async with session.get(f"{api}/pods/{pod}:{self.port}/proxy/metrics") as answer:
            found = _SHOWN.search(await answer.text())
        if found:
            self.splits.show(time.monotonic(), pod, found[1])
