"""Builds named programs of the sandbox into the cache, with progress: `python .ci/provide.py helm`.

Called by the Makefile before tests, so that no build happens inside a silent test run. Not here: the programs
themselves (`sandbox/builds/pins.py`), and a cluster (`python -m sandbox up`).
"""

from __future__ import annotations

import sys

from sandbox.builds.cache import Cache
from sandbox.errors import SandboxError
from sandbox.host.layout import from_environment
from sandbox.host.progress import Progress


def main(names: list[str]) -> int:
    """Build what is missing of `names` and return the exit status."""
    cache = Cache(from_environment())
    missing = cache.missing(names)
    if missing:
        progress = Progress(missing)
        try:
            cache.provide_go(names, progress)
            cache.build(names, progress)
        except SandboxError as error:
            print(f"serin: {error}", file=sys.stderr)
            return 1
        progress.finish("built, in the cache")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
