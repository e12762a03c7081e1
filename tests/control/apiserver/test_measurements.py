"""What is said of CPU and memory, out of two looks."""

from __future__ import annotations

import pytest

from meshkube.control.apiserver import measurements
from meshkube.control.apiserver.measurements import Look, Point, Use, use

SECOND = 1_000_000_000


def point(time: float, cpu: int, started: float = 0.0, memory: int = 4096) -> Point:
    return Point(time, started, cpu, memory)


@pytest.mark.parametrize(
    ("last", "before", "found"),
    [
        (point(115, 4 * SECOND), point(100, SECOND), Use(115, 15, 200_000_000, 4096)),
        (point(115, SECOND), point(100, SECOND), Use(115, 15, 0, 4096)),
        (point(115, SECOND), None, None),
        (point(100, SECOND), point(100, SECOND), None),
        # Started anew between the looks, long enough ago: from its start.
        (point(115, 6 * SECOND, 103), point(100, 9 * SECOND), Use(115, 12, 500_000_000, 4096)),
        # Too short ago to say anything.
        (point(115, 6 * SECOND, 106), point(100, 9 * SECOND), None),
        # Counters that went back without a start tell of nothing that can be used.
        (point(115, SECOND), point(100, 2 * SECOND), None),
    ],
)
def test_use_between_two_looks(last: Point, before: Point | None, found: Use | None) -> None:
    assert use(last, before) == found


def test_a_container_that_came_between_two_looks_is_measured_from_its_start() -> None:
    key = ("shop", "web")
    before = Look(point(100, 0), {})
    old, new = point(120, 5 * SECOND, 110), point(120, 5 * SECOND, 115)
    assert measurements.use_of_pod(key, Look(None, {key: {"c": old}}), before) == {
        "c": Use(120, 10, 500_000_000, 4096)
    }
    assert measurements.use_of_pod(key, Look(None, {key: {"c": new}}), before) == {}


def test_a_summary_is_read_and_what_it_leaves_out_is_not_there() -> None:
    def part(time: str, **more: object) -> dict[str, object]:
        return {
            "startTime": "2026-01-01T00:00:00Z",
            "cpu": {"time": time, "usageCoreNanoSeconds": 7},
            "memory": {"time": time, "workingSetBytes": 9},
            **more,
        }

    ref = {"namespace": "shop", "name": "web", "uid": "u"}
    whole = part("2026-01-01T00:01:00.500000Z", name="c")
    half = {"name": "d", "startTime": "2026-01-01T00:00:00Z"}
    found = measurements.look(
        {
            "node": part("2026-01-01T00:01:00Z"),
            "pods": [{"podRef": ref, "containers": [whole, half]}, {"podRef": ref | {"name": "x"}}],
        }
    )
    assert found.node == Point(1767225660.0, 1767225600.0, 7, 9)
    assert found.pods == {("shop", "web"): {"c": Point(1767225660.5, 1767225600.0, 7, 9)}}


def test_the_documents_are_those_of_the_resource_metrics_api() -> None:
    pod = {"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}}
    uses = {"b": Use(1767225660.0, 15.0125, 12345678, 5000), "a": Use(1767225659.0, 15, 0, 1 << 30)}
    assert measurements.pod_metrics(pod, uses) == {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:59Z",
        },
        "timestamp": "2026-01-01T00:00:59Z",
        "window": "15s",
        "containers": [
            {"name": "b", "usage": {"cpu": "12345678n", "memory": "4Ki"}},
            {"name": "a", "usage": {"cpu": "0", "memory": "1Gi"}},
        ],
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(15, "15s"), (1.0214, "1.021s"), (75.5, "1m15.5s"), (0.25, "0.25s")]
)
def test_durations_are_written_as_in_go(seconds: float, text: str) -> None:
    assert measurements.duration(seconds) == text
