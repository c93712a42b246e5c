"""The whole sandbox with the operator installed by its charts, started once per run; ended only if it was not there.

`place` says where it is, `began` since when, `light_image` loads the light engine, `cluster` is a namespace of a test's
own. What is made here is what `make demo` makes: the tests reuse its modules.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from examples.demo import prepare
from examples.demo.cluster import Cluster
from examples.demo.place import ROOT, Place, sandbox_state
from examples.demo.say import Teller
from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.host.layout import from_environment
from tests.e2e.light import IMAGE


@pytest.fixture(scope="session", autouse=True)
def began() -> datetime:
    """When this run began to touch the sandbox."""
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """A sandbox in which the operator runs, as in the demo."""
    status = [sys.executable, "-m", "sandbox", "status"]
    was_up = subprocess.run(status, cwd=ROOT, capture_output=True, check=False).returncode == 0
    tell = Teller()
    try:
        found = prepare.sandbox(tell)
        prepare.operator(tell, found)
        yield found
    finally:
        if not was_up:
            prepare.stream(tell, [sys.executable, "-m", "sandbox", "down"])


@pytest.fixture(scope="session")
def light_image(place: Place) -> str:
    """The tag of the light engine's image, which the node has."""
    archive = sandbox_state(place.environment) / "light.tar"
    go = Cache(from_environment()).provide_go(pins.FULL_TIER)
    command = [sys.executable, "-m", "model_server.light.image", str(archive)]
    prepare.stream(Teller(), command, {**os.environ, "GO": go})
    prepare.stream(Teller(), [sys.executable, "-m", "sandbox", "load", str(archive)])
    return IMAGE


@pytest.fixture
def cluster(place: Place, light_image: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A namespace for one test, removed with everything in it."""
    assert light_image == IMAGE
    name = re.sub("[^a-z0-9]+", "-", f"e2e-{request.node.name}".lower())[:40].strip("-")
    here = Cluster(place.environment, name)
    here.make_namespace()
    yield here
    # The model first: a namespace that ends takes a minute for its pods, in which the operator would mourn them.
    here.kubectl("delete", "llmdeployments", "--all", "--wait", timeout=60)
    here.kubectl("delete", "namespace", name, "--wait=false")
