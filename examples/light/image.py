"""Puts the light engine's image on the sandbox's node. Callers: the end-to-end tests and `bench.rollback`."""

from __future__ import annotations

import os
import sys

from examples.demo.place import Place, sandbox_state
from examples.demo.prepare import stream
from examples.demo.say import Teller
from examples.light.story import IMAGE
from sandbox.builds import pins
from sandbox.builds.cache import Cache
from sandbox.host.layout import from_environment


def load_image(tell: Teller, place: Place) -> str:
    """Build the image, import it into the node, and return its tag."""
    archive = sandbox_state(place.environment) / "light.tar"
    go = Cache(from_environment()).provide_go(pins.full_tier(pins.CONTOUR))
    stream(tell, [sys.executable, "-m", "model_server.light.image", str(archive)], {**os.environ, "GO": go})
    stream(tell, [sys.executable, "-m", "sandbox", "load", str(archive)])
    return IMAGE
