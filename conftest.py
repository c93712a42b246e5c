"""For every test: hypothesis tries the same examples each time, and sets no time limit for an example."""

from hypothesis import settings

settings.register_profile("serin", deadline=None, derandomize=True)
settings.load_profile("serin")
