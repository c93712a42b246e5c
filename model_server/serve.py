"""Runs a real vLLM with the tiny model on loopback, with or without the middleware.

Called by the slow tests and the benchmark. The middleware is installed as in a pod: the operator's installer copies it
into a directory on vLLM's PYTHONPATH. Needs the builds of `model_server.cpu.install` and `model_server.tiny` (cached).
Not here: anything about Kubernetes.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model_server.cpu.install import install
from model_server.serin_model_server.channel import PATH_VARIABLE
from model_server.serin_model_server.prompting.stage import PROMPTS_VARIABLE
from sandbox.host.ports import free_port
from serin.install_model_server import install as install_middleware

MODEL = "triage"
MIDDLEWARE = "--middleware=serin_model_server.Middleware"
ENGINE_PROCESS = "VLLM::EngineCor"
"""Name of vLLM's engine process, cut to the 15 bytes that the kernel stores."""
READY_SECONDS = 300
STOP_SECONDS = 30
_ROOT = Path(__file__).parents[1]


class ServeError(Exception):
    """vLLM does not serve; the message says why and what to do."""


class Server:
    """A vLLM that listens on 127.0.0.1."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        """Process id of the API server, in which the middleware runs; the engine has processes of its own."""

    def cpu_seconds(self) -> float:
        """CPU seconds that all threads of the API server have used so far, as the kernel's scheduler counts them."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop all of its processes inside the block; an idle engine would use CPU by polling for work."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    @contextmanager
    def engine_standing_still(self) -> Iterator[None]:
        """Stop the engine but not the API server inside the block, so that no response is completed."""
        engines = [child for child in self._children() if _name(child).startswith(ENGINE_PROCESS)]
        if not engines:
            raise ServeError(
                f"vLLM has no process named {ENGINE_PROCESS}: look up the name that this version uses "
                "and correct ENGINE_PROCESS in model_server/serve.py"
            )
        try:
            for engine in engines:
                os.kill(engine, signal.SIGSTOP)
            yield
        finally:
            for engine in engines:
                with suppress(ProcessLookupError):
                    os.kill(engine, signal.SIGCONT)

    def _children(self) -> list[int]:
        """Ids of the processes that the API server's threads have started."""
        children: list[int] = []
        for listed in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                children += map(int, listed.read_text().split())
        return children

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """POST a JSON body; returns status and body of the response."""
        return self.post_bytes(path, json.dumps(body).encode(), headers)

    def post_bytes(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """POST bytes as JSON, whatever they are; returns status and body of the response."""
        return self._ask("POST", path, body, {"content-type": "application/json"} | {**(headers or {})})

    def get(self, path: str) -> tuple[int, bytes]:
        """GET a page; returns status and body of the response."""
        return self._ask("GET", path, None, {})

    def samples(self, prefix: str) -> dict[str, float]:
        """The samples of /metrics that begin with `prefix`, by name and labels as printed there."""
        lines = self.get("/metrics")[1].decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(prefix)}

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _name(pid: int) -> str:
    """The kernel's name of a process; empty if the process has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def tiny_model(environment: Path) -> Path:
    """The directory of the tiny model, which is trained if the cache does not have it (two minutes).

    Raises:
        ServeError: it cannot be trained.
    """
    done = subprocess.run(
        [environment / "bin" / "python", "-m", "model_server.tiny"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    if done.returncode:
        raise ServeError(
            f"the tiny model cannot be trained: {done.stderr.strip()[-500:]}; "
            "fix this, and try it with `python -m model_server.tiny`"
        )
    return Path(done.stdout.splitlines()[-1])


@contextmanager
def serving(
    scratch: Path, *flags: str, middleware: bool, split: bytes | None = None, prompts: bool = False
) -> Iterator[Server]:
    """Run a vLLM inside the block: yielded when it is ready, ended with all its processes afterwards.

    Args:
        scratch: directory for its log and for the middleware.
        flags: more flags of `vllm serve`.
        middleware: whether vLLM loads the middleware.
        split: the split document that the middleware loads, at `split_path(scratch)`; without it, revisions and epochs
            come from headers.
        prompts: whether the middleware applies the prompts of the document.

    Raises:
        ServeError: it did not become ready.
    """
    environment = install(os.environ)
    model = tiny_model(environment)
    port = free_port()
    command = [str(environment / "bin" / "vllm"), "serve", str(model), f"--served-model-name={MODEL}"]
    command += ["--enforce-eager", "--host=127.0.0.1", f"--port={port}", "--shutdown-timeout=5", *flags]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    # As in the sandbox. With more threads on two cores, they wait for each other busily, and one response in a hundred
    # takes half a second longer.
    environ |= {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    if middleware:
        target = scratch / "model-server"
        target.mkdir(exist_ok=True)
        install_middleware(target)
        command.append(MIDDLEWARE)
        environ["PYTHONPATH"] = str(target)
    environ.pop(PATH_VARIABLE, None)
    environ[PROMPTS_VARIABLE] = "1" if prompts else ""
    if split is not None:
        document = split_path(scratch)
        document.parent.mkdir(exist_ok=True)
        document.write_bytes(split)
        environ[PATH_VARIABLE] = str(document)
    log = scratch / f"vllm-{port}.log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, env=environ, cwd=scratch, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        try:
            server = Server(port, process.pid)
            _wait_until_ready(server, process, log)
            yield server
        finally:
            _end(process)


def split_path(scratch: Path) -> Path:
    """Where the middleware of a served vLLM finds its split document."""
    return scratch / "split" / "split.json"


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            if server.get("/health?split")[0] == 200:
                return
        time.sleep(0.5)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise ServeError(f"vLLM was not ready after {READY_SECONDS} s; its log ends with\n{tail}\nFix the error in the log")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # The process has a group of its own because of start_new_session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
