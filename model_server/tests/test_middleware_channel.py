"""How a process gets the split document: at the start, when it changes, from its copy; what it shows and keeps."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from model_server.serin_model_server import channel as channels
from model_server.serin_model_server import document as documents
from model_server.serin_model_server.channel import Channel
from model_server.serin_model_server.document import MAX_BYTES
from model_server.tests.split_documents import document, raw


class Pod:
    """The volumes of a pod, written as a kubelet does: a link to a directory that is replaced at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volume = folder / "split"
        self.volume.mkdir()
        self.path = self.volume / "split.json"
        self.scratch = folder / "serin-split.json"
        self.registry = CollectorRegistry()
        self._number = 0

    def deliver(self, content: bytes) -> None:
        self._number += 1
        folder = self.volume / f"..{self._number}"
        folder.mkdir()
        (folder / "split.json").write_bytes(content)
        fresh = self.volume / "..fresh"
        fresh.symlink_to(folder.name)
        fresh.rename(self.volume / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to(Path("..data", "split.json"))

    def start(self) -> Channel:
        """A new process of the pod."""
        self.registry = CollectorRegistry()
        channel = Channel(self.path, self.scratch, self.registry, poll=0.01)
        channel.start()
        return channel

    def digests(self) -> dict[str, float]:
        return {
            sample.labels["digest"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "serin_split_info"
        }

    def refused(self) -> float | None:
        return self.registry.get_sample_value("serin_split_refused")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def digest(**changes: Any) -> str:
    return str(document(**changes)["sha256"][:12])


def in_force(channel: Channel) -> int | None:
    """The sequence of the document in force."""
    return None if channel.document is None else channel.document.sequence


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not seen():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.005)


def test_document_is_loaded_at_the_start(pod: Pod) -> None:
    pod.deliver(raw())
    channel = pod.start()

    assert channel.document is not None
    assert pod.digests() == {digest(): 1}
    assert pod.refused() == 0


async def test_changed_document_is_loaded_by_the_timer(pod: Pod) -> None:
    pod.deliver(raw())
    channel = pod.start()
    channel.ensure_polling()
    for sequence in (72, 73, 74):
        pod.deliver(raw(sequence=sequence))
        await until(lambda wanted=sequence: in_force(channel) == wanted)  # type: ignore[misc]

    assert pod.digests() == {digest(sequence=73): 0, digest(sequence=74): 1}
    pod.deliver(raw(sequence=73))
    await until(lambda: in_force(channel) == 73)
    assert pod.digests() == {digest(sequence=74): 0, digest(sequence=73): 1}


async def test_document_written_twice_in_one_moment_is_seen(pod: Pod) -> None:
    """The same file, the same size, and for a coarse clock the same time."""
    pod.path.write_bytes(raw(sequence=81))
    channel = pod.start()
    times = pod.path.stat()
    pod.path.write_bytes(raw(sequence=82))
    os.utime(pod.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    channel.ensure_polling()

    await until(lambda: in_force(channel) == 82)


def instead(make: Callable[[Path], object]) -> Callable[[Pod], None]:
    def change(pod: Pod) -> None:
        pod.path.unlink()
        make(pod.path)

    return change


BAD: dict[str, Callable[[Pod], None]] = {
    "not-json": lambda pod: pod.deliver(b"{"),
    "wrong-hash": lambda pod: pod.deliver(raw().replace(b"71", b"72")),
    "other-schema": lambda pod: pod.deliver(raw(schema=2)),
    "too-large": lambda pod: pod.deliver(raw(note="x" * MAX_BYTES)),
    "deep": lambda pod: pod.deliver(b"[" * 500_000),
    "key-removed": lambda pod: (pod.volume / "..data" / "split.json").unlink(),
    "removed": instead(lambda _: None),
    "link-to-nowhere": instead(lambda path: path.symlink_to("nowhere")),
    "link-to-itself": instead(lambda path: path.symlink_to("split.json")),
    "directory": instead(lambda path: path.mkdir()),
    "pipe": instead(os.mkfifo),
    "device": instead(lambda path: path.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("name", BAD)
async def test_last_good_document_stays_until_the_next_good_one(
    pod: Pod, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    pod.deliver(raw())
    channel = pod.start()
    channel.ensure_polling()
    good = channel.document
    BAD[name](pod)
    await until(lambda: pod.refused() == 1)
    await asyncio.sleep(0.1)

    assert channel.document is good
    assert pod.digests() == {digest(): 1}
    # One line, however often it is looked at.
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"Document {digest()} stays in force" in line
    # A process that starts now uses the copy, and says that the volume's document is refused.
    restarted = pod.start()
    assert restarted.document == good
    assert pod.digests() == {digest(): 1}
    assert pod.refused() == 1

    restarted.ensure_polling()
    if pod.path.is_dir():
        pod.path.rmdir()
    else:
        pod.path.unlink(missing_ok=True)
    pod.deliver(raw(sequence=72))
    await until(lambda: in_force(restarted) == 72)
    assert pod.refused() == 0


@pytest.mark.parametrize("copy", [None, b"", b"{", raw().replace(b"71", b"72"), raw(schema=2)])
def test_without_a_good_document_none_is_in_force(pod: Pod, copy: bytes | None) -> None:
    if copy is not None:
        pod.scratch.write_bytes(copy)
    channel = pod.start()

    assert channel.document is None
    assert pod.digests() == {}
    assert pod.refused() == 1


def test_copy_that_is_a_link_is_not_read(pod: Pod) -> None:
    elsewhere = pod.folder / "elsewhere"
    elsewhere.write_bytes(raw())
    pod.scratch.symlink_to(elsewhere)
    assert pod.start().document is None
    # And is replaced, not followed.
    pod.deliver(raw(sequence=72))
    pod.start()
    assert json.loads(elsewhere.read_bytes())["sequence"] == 71
    assert json.loads(pod.scratch.read_bytes())["sequence"] == 72


def test_refused_document_does_not_replace_the_copy(pod: Pod) -> None:
    pod.deliver(raw())
    pod.start()
    pod.deliver(raw(schema=2))
    pod.start()

    assert pod.scratch.read_bytes() == raw()
    assert sorted(path.name for path in pod.folder.iterdir()) == ["serin-split.json", "split"]


def test_scratch_volume_that_cannot_be_written_does_no_harm(pod: Pod) -> None:
    pod.scratch = pod.folder / "missing" / "serin-split.json"
    pod.deliver(raw())

    assert pod.start().document is not None
    assert pod.refused() == 0


async def test_only_one_check_runs_at_a_time(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.deliver(raw())
    channel = pod.start()
    running = most = checks = 0
    parse = documents.parse

    def slow(content: bytes) -> Any:
        nonlocal running, most, checks
        running += 1
        checks += 1
        most = max(most, running)
        time.sleep(0.05)
        running -= 1
        return parse(content)

    monkeypatch.setattr(channels, "parse", slow)
    channel.ensure_polling()
    for sequence in range(72, 92):
        pod.deliver(raw(sequence=sequence))
        await asyncio.sleep(0.01)
    await until(lambda: in_force(channel) == 91)

    assert most == 1
    assert checks < 20


@pytest.mark.parametrize("broken", ["_look", "_check", "_apply"])
async def test_unexpected_failure_is_logged_once_and_polling_goes_on(
    pod: Pod, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pod.deliver(raw())
    channel = pod.start()
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(channel, broken, fail)
        channel.ensure_polling()
        pod.deliver(raw(sequence=72))
        await until(lambda: calls >= 3)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    await until(lambda: in_force(channel) == 72)


async def test_document_that_flickers_never_gives_a_half_read_one(pod: Pod) -> None:
    """Two documents take turns, by links and by writing over; what is in force is always one of the two."""
    first, second = raw(sequence=1, note="a" * 200_000), raw(sequence=2, note="b" * 200_000)
    pod.deliver(first)
    channel = pod.start()
    channel.ensure_polling()
    seen = set()
    for number in range(60):
        if number % 3:
            pod.deliver(second if number % 2 else first)
        else:
            (pod.volume / "..data" / "split.json").write_bytes((second if number % 2 else first)[: number * 5_000])
        await asyncio.sleep(0.004)
        assert channel.document is not None
        seen.add(channel.document.digest)
    assert seen <= {digest(sequence=1, note="a" * 200_000), digest(sequence=2, note="b" * 200_000)}


@pytest.mark.parametrize("path", [None, ""])
def test_pod_without_the_variable_has_no_channel(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    if path is None:
        monkeypatch.delenv(channels.PATH_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(channels.PATH_VARIABLE, path)
    channels.shared.cache_clear()

    assert channels.shared() is None
    channels.shared.cache_clear()


SERVERS = """
import os, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from model_server.serin_model_server import document as documents
from model_server.serin_model_server.channel import Channel
from model_server.tests.split_documents import raw

folder = Path(sys.argv[1])
path = folder / "split.json"
path.write_bytes(raw())
channel = Channel(path, folder / "copy", CollectorRegistry())
channel.start()
children = []
for sequences in ([72], [72, 73]):
    if not (child := os.fork()):
        other = Channel(path, folder / "copy", CollectorRegistry())
        for sequence in sequences:
            path.write_bytes(raw(sequence=sequence))
            other.start()
        os._exit(0)
    os.waitpid(child, 0)
path.write_bytes(b"{")
channel.start()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_several_api_servers_are_summed(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    root = Path(channels.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVERS, str(tmp_path)],
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": f"{root}:{root / 'operator'}"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines())
    assert f'serin_split_info{{digest="{digest()}"}} 1.0' in lines
    assert f'serin_split_info{{digest="{digest(sequence=72)}"}} 1.0' in lines
    assert f'serin_split_info{{digest="{digest(sequence=73)}"}} 1.0' in lines
    assert "serin_split_refused 1.0" in lines
