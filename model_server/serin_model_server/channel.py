"""Brings the split document from the pod's volume into the process, and shows which one is in force.

One per process; with several API servers in a pod, each loads for itself, when the middleware is made and then every
quarter of a second. A document that is refused changes nothing: the last good one stays in force. A copy of that one on
the pod's scratch volume serves a process that starts while the volume has none that is good.

A look is a read of at most 1 MiB and a comparison. Only a document that has changed is checked, in a thread, so that
the event loop goes on. Nothing here raises into a request. Not here: what makes a document good (`document`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from .document import MAX_BYTES, Document, DocumentRefused, parse
from .ticker import Ticker

log = logging.getLogger("serin_model_server")

PATH_VARIABLE = "SERIN_SPLIT"
"""Environment variable with the document's path; without it the route's headers say everything."""
SCRATCH = Path("/tmp/serin-split.json")  # noqa: S108 - the scratch volume of a pod
POLL_SECONDS = 0.25


class Series:
    """The gauges that show which document is in force."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        # Several API servers: the sum is the number of processes that use a document; the one before must become 0.
        self.info = Gauge(
            "serin_split_info",
            "1 for the split document in force, by the first 12 hex digits of its hash; 0 for the one before. With "
            "several API servers: the number of them that use it.",
            ("digest",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.refused = Gauge(
            "serin_split_refused",
            "1 if the split document on the volume is refused or cannot be read, so that an older one stays in force.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._shown: list[str] = []

    def show(self, digest: str) -> None:
        """Show a document as the one in force."""
        before = [each for each in self._shown if each != digest]
        self.info.labels(digest).set(1)
        for each in before:
            self.info.labels(each).set(0)
        # prometheus_client cannot remove a series in its multi-process mode; there it stays at 0.
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            for each in before[:-1]:
                self.info.remove(each)
        self._shown = [*before[-1:], digest]


class _Checked(NamedTuple):
    """What became of the bytes, or of the reason why there are none."""

    found: bytes | str
    document: Document | None
    refusal: str


class Channel:
    """The split document of one process."""

    def __init__(
        self, path: Path, scratch: Path = SCRATCH, registry: CollectorRegistry = REGISTRY, poll: float = POLL_SECONDS
    ) -> None:
        self.document: Document | None = None
        """The document in force; replaced as a whole, never changed. None until one was loaded."""
        self._path = path
        self._scratch = scratch
        self._series = Series(registry)
        self._ticker = Ticker(poll, self.poll, self._poll_failed)
        self._seen: bytes | str | None = None
        """What the last look found: the bytes, or why there are none."""
        self._checking: asyncio.Future[_Checked] | None = None
        self._failure_logged = False

    def start(self) -> None:
        """Load now, from the scratch volume if the document is not good. Raises nothing."""
        try:
            self._apply(self._check(self._look()))
            if self.document is None:
                self._restore()
        except Exception:  # noqa: BLE001 - a pod without a document is not ready, which is enough
            self._poll_failed()

    def ensure_polling(self) -> None:
        """Look at the volume from now on, in the running event loop."""
        self._ticker.ensure()

    def poll(self) -> None:
        """Look at the volume, and start to check what is new there, unless a check is running."""
        loop = asyncio.get_running_loop()
        # A check of an event loop that has ended does not report back.
        if self._checking is not None and self._checking.get_loop() is loop:
            return
        found = self._look()
        if found != self._seen:
            self._checking = loop.run_in_executor(None, self._check, found)
            self._checking.add_done_callback(self._on_checked)

    def _look(self) -> bytes | str:
        try:
            return _read(self._path)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        except DocumentRefused as refusal:
            return str(refusal)

    def _check(self, found: bytes | str) -> _Checked:
        """Check a document; keep a copy of a good one. Runs in a thread, so it changes nothing in the process."""
        if isinstance(found, str):
            return _Checked(found, None, found)
        try:
            document = parse(found)
        except DocumentRefused as refusal:
            return _Checked(found, None, str(refusal))
        # A pod without a writable scratch volume works, and loses only this.
        with suppress(OSError):
            _write(self._scratch, found)
        return _Checked(found, document, "")

    def _on_checked(self, checking: asyncio.Future[_Checked]) -> None:
        self._checking = None
        if checking.cancelled():
            return
        try:
            self._apply(checking.result())
        except Exception:  # noqa: BLE001 - the next look checks again
            self._poll_failed()

    def _apply(self, checked: _Checked) -> None:
        self._seen = checked.found
        self._series.refused.set(checked.document is None)
        if checked.document is not None:
            self._use(checked.document)
            return
        log.warning(
            "The split document %s is refused: %s. %s. Compare the ConfigMap of this volume with what Serin writes.",
            self._path,
            checked.refusal,
            f"Document {self.document.digest} stays in force" if self.document else "No document is in force",
        )

    def _use(self, document: Document) -> None:
        if self.document is None or document.digest != self.document.digest:
            log.info("Split document %s (sequence %d) is in force.", document.digest, document.sequence)
        self.document = document
        self._series.show(document.digest)

    def _restore(self) -> None:
        """Use the copy on the scratch volume, if there is a good one."""
        with suppress(OSError, DocumentRefused):
            self._use(parse(_read(self._scratch, os.O_NOFOLLOW)))

    def _poll_failed(self) -> None:
        if not self._failure_logged:
            self._failure_logged = True
            log.warning(
                "Loading the split document %s failed; the last one stays in force. Further failures are not logged.",
                self._path,
                exc_info=True,
            )


def _read(path: Path, flags: int = 0) -> bytes:
    """The bytes of a file: one file from start to end, even if the path comes to mean another one meanwhile.

    Raises:
        OSError: it cannot be read.
        DocumentRefused: it is not a file, or has more than MAX_BYTES.
    """
    # Without O_NONBLOCK, a pipe in place of the file would block the process.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DocumentRefused("it is not a file")
        raw = b""
        if status.st_size <= MAX_BYTES:
            # One byte more, because the file may grow meanwhile.
            while len(raw) <= MAX_BYTES and (more := file.read(MAX_BYTES + 1 - len(raw))):
                raw += more
    if max(status.st_size, len(raw)) > MAX_BYTES:
        raise DocumentRefused(f"it has more than {MAX_BYTES:,} bytes")
    return raw


def _write(path: Path, raw: bytes) -> None:
    """Replace a file as a whole; several processes may do so at once.

    Raises:
        OSError: the directory cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(raw)
        os.replace(name, path)  # noqa: PTH105 - of a name
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=1)
def shared() -> Channel | None:
    """The channel of this process, loaded; None in a pod without a split document."""
    path = os.environ.get(PATH_VARIABLE)
    if not path:
        return None
    channel = Channel(Path(path))
    channel.start()
    return channel
