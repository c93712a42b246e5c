"""The whole sandbox with the operator installed by its charts, started once per run; ended only if this run started it.

`place` is the sandbox, `began` the start of the run, `light_image` the light engine's image on the node, `cluster` and
`other_cluster` namespaces for one test. The fixtures use the modules of `make demo`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from examples.demo import prepare
from examples.demo.cluster import Cluster, temporary_namespace
from examples.demo.place import ROOT, Place
from examples.demo.say import Teller
from examples.light.image import load_image
from examples.light.story import IMAGE


@pytest.fixture(scope="session", autouse=True)
def began() -> datetime:
    """The time at which this run began."""
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """A sandbox in which the operator runs, installed as in the demo."""
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
    return load_image(Teller(), place)


@pytest.fixture
def cluster(place: Place, light_image: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A namespace for one test, removed with everything in it."""
    assert light_image == IMAGE
    with temporary_namespace(place.environment, _name("e2e", request.node.name)) as here:
        yield here


@pytest.fixture
def other_cluster(place: Place, light_image: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A second namespace for one test, removed with everything in it."""
    assert light_image == IMAGE
    with temporary_namespace(place.environment, _name("e2e-other", request.node.name)) as here:
        yield here


def _name(prefix: str, test: str) -> str:
    return re.sub("[^a-z0-9]+", "-", f"{prefix}-{test}".lower())[:40].strip("-")
