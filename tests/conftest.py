"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On a machine that has other work an example may take any time: slow is not wrong.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
