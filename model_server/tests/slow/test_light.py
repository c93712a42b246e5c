"""The light server: its Go tests, and its image."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from model_server.light.image import HERE, TAG, find_go, write
from sandbox.builds.cache import Cache
from sandbox.host.layout import from_environment


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """The environment with GO set to the machine's Go or else to the cached one."""
    return {**os.environ, "GO": Cache(from_environment()).provide_go([], modules=[HERE / "go.mod"])}


def test_go_tests_of_light_server_pass(environ: dict[str, str]) -> None:
    command = [find_go(environ), "test", "./..."]
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


def test_image_is_one_static_program_and_reproducible(tmp_path: Path, environ: dict[str, str]) -> None:
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    assert write(first, environ) == write(second, environ)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        content = archive.extractfile("manifest.json")
        assert content is not None
        (manifest,) = json.load(content)
        assert manifest["RepoTags"] == [TAG]
        config = archive.extractfile(manifest["Config"])
        assert config is not None
        settings = json.load(config)["config"]
    assert settings["Entrypoint"] == ["/usr/bin/light", "serve"]
    assert settings["User"] == "2000"
