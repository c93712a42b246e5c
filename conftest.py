"""For every test: hypothesis tries the same examples each time, and no example has to be quick."""

from hypothesis import settings

settings.register_profile("serin", deadline=None, derandomize=True)
settings.load_profile("serin")
