"""What the API server counts, in plain integers, and exports as Prometheus metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from meshkube.metrics import REGISTRY

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Source(Protocol):
    """A running API server, as far as its gauges go."""

    def watchers(self) -> dict[str, int]:
        """Open watches by resource, in process too."""
        ...

    def objects(self) -> dict[str, int]:
        """Cached objects by resource."""
        ...


class Telemetry(Collector):
    """All API servers of this process together."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._requests: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def count(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """One answered request. Watches count when they end, and without their duration."""
        key = (verb, resource, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if verb in ("watch", "connect"):
            return
        times = self._times.get((verb, resource))
        if times is None:
            times = self._times[verb, resource] = [0] * (len(BOUNDS) + 1)
            self._sums[verb, resource] = 0.0
        times[bisect_left(BOUNDS, seconds)] += 1
        self._sums[verb, resource] += seconds

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "meshkube_api_requests",
            "Requests answered.",
            labels=("verb", "resource", "code"),
        )
        for (verb, resource, code), count in self._requests.items():
            requests.add_metric((verb, resource, str(code)), count)
        yield requests
        yield self._durations()
        yield from self._gauges()

    def _durations(self) -> Metric:
        durations = HistogramMetricFamily(
            "meshkube_api_request_duration_seconds",
            "Time from a request's head to its answer.",
            labels=("verb", "resource"),
        )
        for key, times in self._times.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), times, strict=True):
                total += count
                buckets.append((bound, float(total)))
            durations.add_metric(key, buckets, self._sums[key])
        return durations

    def _gauges(self) -> Iterator[Metric]:
        watchers: dict[str, int] = {}
        objects: dict[str, int] = {}
        for source in self.sources:
            _add(watchers, source.watchers())
            _add(objects, source.objects())
        for name, text, values in (
            ("meshkube_api_watchers", "Open watches, in process too.", watchers),
            ("meshkube_api_objects", "Objects in the watch cache.", objects),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("resource",))
            for resource, value in values.items():
                gauge.add_metric((resource,), value)
            yield gauge


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for key, value in more.items():
        total[key] = total.get(key, 0) + value


TELEMETRY = Telemetry()
REGISTRY.register(TELEMETRY)
