"""How many examples Hypothesis makes: few in `make test`, many in `make fuzz`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Hangs are found by the timeout of the tests; a slow machine is no error.
settings.register_profile("quick", max_examples=60, deadline=None)
settings.register_profile(
    "fuzz", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")
