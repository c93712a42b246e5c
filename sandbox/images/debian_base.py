"""The lowest layer of the operator's image: Python and its libraries, unpacked from Debian packages.

Called by `operator_image`. The packages come from the machine's own signed sources by `apt-get download`; they are
unpacked, never installed: no maintainer script runs, and neither shell nor package manager ends up in the image.
Each package leaves its control file in /var/lib/dpkg/status.d, where vulnerability scanners look for it.
Not here: a choice of distribution. The image has the release of the machine that it is built on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.host import commands

PYTHON = "3.11"
RELEASE = Path("/etc/os-release")
PACKAGES = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libssl3",
    "libexpat1",
    "libffi8",
    "libsqlite3-0",
    "libuuid1",
    "zlib1g",
    "libbz2-1.0",
    "liblzma5",
    "ca-certificates",
    "media-types",
    "netbase",
)
# Modules whose libraries are left out: a service has neither terminal nor NIS, and dbm has other backends.
_UNUSED_MODULES = ("_curses", "_curses_panel", "_dbm", "_crypt", "nis", "readline")
_UNUSED_PATHS = (
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/python3",
    "usr/share/gdb",
)
# Debian's merged /usr: the loader's path is compiled into every program as /lib64.
_MERGED = ("bin", "lib", "lib64", "sbin")
PASSWD = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
GROUP = "root:x:0:\nnonroot:x:65532:\n"


def system_name() -> str:
    """Return what the layer depends on beside this module: release, architecture and package names.

    Raises:
        SandboxError: this machine is not Debian 12.
    """
    release = RELEASE.read_text() if RELEASE.exists() else ""
    fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    name = f"{fields.get('ID', '')}-{fields.get('VERSION_ID', '')}".replace('"', "")
    if name != "debian-12":
        raise SandboxError(
            f"The operator's image cannot be made here because it needs Debian 12 packages and this machine is "
            f"{name or 'unknown'}. Use Debian 12, or build operator/Dockerfile with docker."
        )
    return f"{name} {os.uname().machine} {' '.join(PACKAGES)}"


def install_debian_base(tree: Path) -> None:
    """Fill `tree` with the root file system.

    Raises:
        SandboxError: the packages cannot be fetched; the message says what to do.
    """
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")
    with tempfile.TemporaryDirectory() as scratch:
        archives = _download(Path(scratch))
        for archive in archives:
            _unpack(archive, tree)
    for path in _UNUSED_PATHS:
        shutil.rmtree(tree / path, ignore_errors=True)
    for module in _UNUSED_MODULES:
        for library in (tree / "usr" / "lib" / f"python{PYTHON}" / "lib-dynload").glob(f"{module}.*.so"):
            library.unlink()
    for conversions in (tree / "usr" / "lib").glob("*/gconv"):
        shutil.rmtree(conversions)
    # This script would need a shell, and the image has none.
    (tree / "usr" / "sbin" / "update-ca-certificates").unlink()
    (tree / "usr" / "bin" / "python3").symlink_to(f"python{PYTHON}")
    _configure(tree)
    compile_bytecode(tree, tree / "usr" / "lib" / f"python{PYTHON}")


def compile_bytecode(tree: Path, folder: Path, *, python: Path | None = None) -> None:
    """Compile every module below `folder` ahead of time with the image's own interpreter.

    Unchecked, because a layer has no modification times to compare; without the path of `tree`, so that the same
    modules always give the same bytes.
    """
    interpreter = python or tree / "usr" / "bin" / "python3"
    arguments = ["-I", "-B", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", str(tree)]
    subprocess.run([str(interpreter), *arguments, "-p", "/", str(folder)], check=True)


def _download(folder: Path) -> list[Path]:
    if _apt(["download", *PACKAGES], folder):
        if _apt(["update"], folder):
            raise SandboxError(
                "The base packages cannot be fetched because apt-get update failed. "
                "Check the network and the package sources, then run it again."
            )
        words = _apt(["download", *PACKAGES], folder)
        if words:
            raise SandboxError(
                f"The base packages cannot be fetched ({words}). Check the package sources, then run it again."
            )
    return sorted(folder.glob("*.deb"))


def _apt(arguments: Sequence[str], folder: Path) -> str:
    """Run apt-get and return an empty string, or the last line of its output if it failed."""
    command = ["apt-get", "-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]
    if os.geteuid() == 0:
        # As root, apt would download as another user, who may not write into this folder.
        command += ["-o", "APT::Sandbox::User=root"]
    done = commands.finish(
        [*command, *arguments], doing="fetching the base packages", seconds=commands.PACKAGE_SECONDS, cwd=folder
    )
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return (said.splitlines() or ["no output"])[-1]


def _unpack(archive: Path, tree: Path) -> None:
    files = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True).stdout
    # Packages of this release still contain files under /lib, which must stay a link into /usr.
    subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", tree], input=files, check=True)
    control = subprocess.run(["dpkg-deb", "-f", archive], check=True, capture_output=True, text=True).stdout
    status = tree / "var" / "lib" / "dpkg" / "status.d"
    status.mkdir(parents=True, exist_ok=True)
    (status / archive.name.split("_", 1)[0]).write_text(control)


def _configure(tree: Path) -> None:
    """Do what the packages' maintainer scripts would have done, as far as it is needed."""
    authorities = sorted((tree / "usr" / "share" / "ca-certificates" / "mozilla").glob("*.crt"))
    bundle = tree / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in authorities))
    # Where libssl looks by default.
    openssl = tree / "usr" / "lib" / "ssl"
    openssl.mkdir(exist_ok=True)
    (openssl / "certs").symlink_to("/etc/ssl/certs")
    (openssl / "cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (tree / "etc" / "passwd").write_text(PASSWD)
    (tree / "etc" / "group").write_text(GROUP)
    (tree / "tmp").mkdir(exist_ok=True)
