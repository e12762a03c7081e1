"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from meshkube.api import meta


def test_times_are_in_utc_with_four_digits_of_year() -> None:
    early = datetime(1, 1, 1, 0, 0, 2, 500_000, tzinfo=UTC)
    assert meta.timestamp(early) == "0001-01-01T00:00:02Z"
    assert meta.micro_timestamp(early) == "0001-01-01T00:00:02.500000Z"
    elsewhere = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert meta.timestamp(elsewhere) == "2025-12-31T23:00:00Z"
    assert meta.micro_timestamp(elsewhere) == "2025-12-31T23:00:00.000000Z"
