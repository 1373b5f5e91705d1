"""What all tests share."""

from hypothesis import settings

# The same examples on every machine, and none of them against the clock.
settings.register_profile("framegate", deadline=None, derandomize=True)
settings.load_profile("framegate")
