"""What recorded events become."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from meshkube.api.errors import ApiError
from meshkube.client.events import BURST, COMBINE_AFTER, Correlator, EventRecorder

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}


def event(message: str = "m", name: str = "web", number: int = 0) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{number}", "namespace": "shop"},
        "involvedObject": {"kind": "Pod", "name": name, "namespace": "shop"},
        "type": "Normal",
        "reason": "Started",
        "message": message,
        "firstTimestamp": str(number),
    }


def test_the_same_event_counts_up_under_one_name() -> None:
    correlator = Correlator()
    first = correlator.correlate(event(number=1), 0)
    second = correlator.correlate(event(number=2), 1)
    assert first
    assert second
    assert (first.again, second.again) == (False, True)
    assert second.event["metadata"]["name"] == "web.1"
    assert second.event["count"] == 2
    assert second.event["firstTimestamp"] == "1"


def test_another_message_is_another_event() -> None:
    correlator = Correlator()
    correlator.correlate(event("a"), 0)
    other = correlator.correlate(event("b"), 0)
    assert other
    assert not other.again


def test_many_alike_are_combined_into_one() -> None:
    correlator = Correlator()
    writes = [correlator.correlate(event(f"m{n}", number=n), n) for n in range(COMBINE_AFTER + 3)]
    combined = [w for w in writes if w and w.event["message"].startswith("(combined")]
    assert len(combined) == 4
    assert [w.again for w in combined] == [False, True, True, True]
    assert len({w.event["metadata"]["name"] for w in combined}) == 1
    assert combined[-1].event["count"] == 4
    assert combined[-1].event["message"].endswith(f"m{COMBINE_AFTER + 2}")


def test_an_object_that_spams_is_limited_and_others_are_not() -> None:
    correlator = Correlator()
    writes = [correlator.correlate(event(), 0) for _ in range(BURST + 5)]
    assert writes[BURST - 1] is not None
    assert writes[BURST:] == [None] * 5
    assert correlator.correlate(event(name="other"), 0) is not None
    assert correlator.correlate(event(), 301) is not None, "earned back after five minutes"


class Api:
    """Just the writes a recorder does, kept as a real API would keep them."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.failures: list[int] = []
        self.stored = asyncio.Event()

    async def create(self, kind: Any, obj: dict[str, Any], namespace: str) -> dict[str, Any]:
        if self.failures:
            raise ApiError(self.failures.pop(), "ServiceUnavailable", "away")
        self.events[obj["metadata"]["name"]] = dict(obj)
        self.stored.set()
        return obj

    async def patch(
        self, kind: Any, name: str, patch: dict[str, Any], namespace: str, *, type: str
    ) -> None:
        if name not in self.events:
            raise ApiError(404, "NotFound", name)
        self.events[name] |= patch


class Clock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> Any:
        return datetime(2026, 1, 2, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_an_event_names_its_object_and_who_says_so() -> None:
    api = Api()
    recorder = EventRecorder(api, "kubelet", "n1", Clock())  # type: ignore[arg-type]
    recorder.event(POD, "Normal", "Started", "Started container web", field_path="spec.c{web}")
    await recorder.flush()
    (stored,) = api.events.values()
    assert stored["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "shop",
        "name": "web",
        "uid": "u1",
        "resourceVersion": "7",
        "fieldPath": "spec.c{web}",
    }
    assert stored["source"] == {"component": "kubelet", "host": "n1"}
    assert stored["firstTimestamp"] == "2026-01-02T00:00:00Z"


async def test_an_event_about_a_cluster_scoped_object_lands_in_default() -> None:
    api = Api()
    recorder = EventRecorder(api, "node-controller", clock=Clock())  # type: ignore[arg-type]
    recorder.event({"kind": "Node", "metadata": {"name": "n1"}}, "Normal", "NodeReady", "m")
    await recorder.flush()
    (stored,) = api.events.values()
    assert stored["metadata"]["namespace"] == "default"


async def test_it_tries_again_while_the_api_is_away() -> None:
    api, clock = Api(), Clock()
    api.failures = [503, 503]
    recorder = EventRecorder(api, "kubelet", clock=clock)  # type: ignore[arg-type]
    recorder.event(POD, "Normal", "Started", "m")
    await recorder.flush()
    assert len(api.events) == 1
    assert clock.slept == [0.5, 1.0]


async def test_an_expired_event_is_made_again() -> None:
    api = Api()
    recorder = EventRecorder(api, "kubelet", clock=Clock())  # type: ignore[arg-type]
    recorder.event(POD, "Normal", "Started", "m")
    await recorder.flush()
    api.events.clear()
    recorder.event(POD, "Normal", "Started", "m")
    await recorder.flush()
    assert [stored["count"] for stored in api.events.values()] == [2]


async def test_recording_sends_in_the_background_and_components_share_it() -> None:
    api = Api()
    recorder = EventRecorder(api, "a", clock=Clock())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())
        recorder.named("b").event(POD, "Warning", "Failed", "m")
        async with asyncio.timeout(5):
            await api.stored.wait()
        task.cancel()
    assert next(iter(api.events.values()))["source"] == {"component": "b"}


async def test_what_waits_under_one_key_is_one_write() -> None:
    api = Api()
    recorder = EventRecorder(api, "kubelet", clock=Clock())  # type: ignore[arg-type]
    for _ in range(3):
        recorder.event(POD, "Normal", "Started", "m")
    await recorder.flush()
    assert [stored["count"] for stored in api.events.values()] == [3]
