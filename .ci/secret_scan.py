"""Looks for secrets in every commit and in every file that could be committed: the first step of `make check`.

Takes a folder as argument to scan another repository than this one. If it finds secrets, it prints their places, never
their text, and ends with status 1. Gitleaks is built from its pinned module into Go's own tool cache.
Not here: rules (`gitleaks/gitleaks.toml`), and files that git ignores.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from sandbox.builds.cache import Cache
from sandbox.errors import SandboxError
from sandbox.host import commands
from sandbox.host.layout import from_environment

HERE = Path(__file__).resolve().parent
MODULE = HERE / "gitleaks"
FOUND = 1


def main(arguments: list[str]) -> int:
    """Scan history and tree and return the exit status: 0 when both are clean."""
    root = Path(arguments[0] if arguments else HERE.parent).resolve()
    try:
        go = Cache(from_environment()).provide_go([], modules=[MODULE / "go.mod"])
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch, "tree")
            _copy_tree(root, tree)
            commits = _git(root, "rev-list", "--all", "--count").strip()
            history_clean = commits == "0" or _gitleaks(go, "git", root, f"history, {commits} commits")
            tree_clean = _gitleaks(go, "dir", tree, "files of the working tree")
    except SandboxError as error:
        print(f"secret scan: {error}", file=sys.stderr)
        return 2
    if not (history_clean and tree_clean):
        print(
            "secret scan: found secrets, listed above. Revoke each of them first, then remove it "
            "(amend a commit that was never pushed; rewrite history that was pushed).",
            file=sys.stderr,
        )
        return FOUND
    return 0


def _copy_tree(root: Path, target: Path) -> None:
    """Copy every file that git tracks or does not ignore, with uncommitted changes."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        source = root / name
        # Deleted but not yet committed; or a link, whose target is listed itself or lies outside.
        if not source.is_file() or source.is_symlink():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name)


def _gitleaks(go: str, verb: str, folder: Path, what: str) -> bool:
    """Whether `folder` is clean.

    Raises:
        SandboxError: gitleaks could not be built or did not run to its end; that is not "clean".
    """
    print(f"secret scan: {what}", flush=True)
    # The module is read-only and has checksums; `go tool` builds it once (about half a minute) and caches it.
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
    }
    command = [
        go,
        "tool",
        "gitleaks",
        verb,
        "--config",
        MODULE / "gitleaks.toml",
        "--verbose",
        "--redact",
        "--no-banner",
    ]
    done = commands.finish(
        [*command, "--log-level", "warn", "--no-color", "--exit-code", "97", folder],
        doing="the search for secrets",
        seconds=commands.BUILD_SECONDS,
        cwd=MODULE,
        env=environment,
    )
    if done.returncode == 0:
        return True
    print((done.stdout + done.stderr).decode(errors="replace").replace(f"{folder}/", ""), flush=True)
    if done.returncode != 97:
        raise SandboxError(
            "The scan is incomplete because gitleaks failed, see above. Check network and disk, then run it again."
        )
    return False


def _git(root: Path, *arguments: str) -> str:
    done = commands.finish(["git", "-C", root, *arguments], doing="git", seconds=commands.QUICK_SECONDS)
    if done.returncode:
        raise SandboxError(
            f"{root} is not a git checkout ({done.stderr.decode().strip()}). Clone the repository and run it there."
        )
    return done.stdout.decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
