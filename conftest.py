"""For every test: hypothesis tries the same examples each time, and sets no time limit, however busy the machine is."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("serin", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("serin")


@pytest.fixture(autouse=True)
def same_recursion_limit() -> Iterator[None]:
    """The commands of `serin` raise it for their process, which here is that of all tests."""
    before = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(before)
