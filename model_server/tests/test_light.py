"""The light server: its own Go tests, and the hash that both readers of a split document must compute alike."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from model_server.light.image import HERE, ImageBuildError, find_go
from sandbox.host import commands


def test_hash_of_split_document_is_that_of_go() -> None:
    document = json.loads((HERE / "testdata" / "split.json").read_text())
    stated = document.pop("sha256")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == stated
    # What only one of two encoders would write differently must be in the text.
    assert all(
        part in canonical for part in ("1e-05", '"from":1.0', "1180591620717411303424", "\u2028", "<>&", "grüße")
    )


def test_light_server_passes_its_own_tests() -> None:
    try:
        go = find_go(os.environ)
    except ImageBuildError as error:
        pytest.skip(str(error))
    for words in (["vet"], ["test", "-count=1"]):
        done = commands.finish(
            [go, *words, "."], doing=f"go {words[0]} of the light server", seconds=commands.PACKAGE_SECONDS, cwd=HERE
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
