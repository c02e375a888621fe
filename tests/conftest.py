"""For every test: Hypothesis judges answers, not the speed of a shared machine."""

from hypothesis import settings

settings.register_profile("shipway", deadline=None)
settings.load_profile("shipway")
