"""The fixtures of the end-to-end tests; these take minutes more, for vLLM to load, and are run by `make faults`."""

from __future__ import annotations

from tests.e2e.conftest import began, cluster, light_image, place

__all__ = ["began", "cluster", "light_image", "place"]
