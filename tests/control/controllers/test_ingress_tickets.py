"""The key of session tickets: made, kept, replaced."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshkube.api import kinds, meta
from meshkube.control.controllers import ingress_tickets
from meshkube.control.controllers.ingress_tickets import KEY, LIFE, NAME, NAMESPACE, SINCE, due
from tests.support.cluster import cluster

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_key_is_due_when_its_time_is_over_or_unknown() -> None:
    fresh = ingress_tickets.renewed(None, NOW)
    assert due(None, NOW) <= timedelta(0)
    assert due(fresh, NOW) == LIFE
    assert due(fresh, NOW + LIFE) <= timedelta(0)
    assert due(fresh, NOW - timedelta(hours=1)) <= timedelta(0)
    assert due({**fresh, "data": {}}, NOW) <= timedelta(0)


@pytest.mark.parametrize("text", ["", "yesterday"])
def test_a_key_of_unknown_age_is_replaced(text: str) -> None:
    secret = ingress_tickets.renewed(None, NOW)
    secret["metadata"]["annotations"] = {SINCE: text, "mine": "x"}
    again = ingress_tickets.renewed(secret, NOW)
    assert again["data"]["previous"] == secret["data"]["key"]
    assert set(ingress_tickets.renewed(again, NOW)["data"]) == {"key", "previous"}
    assert due(secret, NOW) <= timedelta(0)
    assert again["data"] != secret["data"]
    assert again["metadata"]["annotations"] == {SINCE: meta.timestamp(NOW), "mine": "x"}


async def test_the_leader_makes_the_key_and_makes_it_anew_when_it_is_lost(tmp_path: Path) -> None:
    async with cluster(tmp_path, [ingress_tickets.CONTROLLER]) as running:
        secrets = running.caches.of(kinds.SECRET)
        first = await running.until(lambda: secrets.get(KEY))
        await running.client.delete(kinds.SECRET, NAME, NAMESPACE)
        await running.until(lambda: (found := secrets.get(KEY)) and found["data"] != first["data"])
