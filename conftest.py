"""For every test: hypothesis tries the same examples each time, and sets no time limit, however busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("serin", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("serin")
