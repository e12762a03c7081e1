"""What the API server counts, in plain integers, and exports as Prometheus metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from meshkube.control.apiserver.cache import ResourceCache
from meshkube.metrics import REGISTRY

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Source(Protocol):
    """A running API server, as far as its gauges go."""

    @property
    def caches(self) -> Iterable[ResourceCache]:
        """What there is of each resource, and who is told of it."""
        ...


_OF_CACHES: tuple[tuple[type[Metric], str, str, Callable[[ResourceCache], int]], ...] = (
    (
        GaugeMetricFamily, "meshkube_api_watchers", "Open watches, in process too.",
        lambda cache: cache.watching,
    ),
    (
        GaugeMetricFamily, "meshkube_api_objects", "Objects in the watch cache.",
        lambda cache: len(cache.items),
    ),
    (
        CounterMetricFamily, "meshkube_api_changes", "Changes of objects in the store.",
        lambda cache: cache.changes,
    ),
    (
        CounterMetricFamily, "meshkube_api_watch_events", "Events told to watches, in process too.",
        lambda cache: cache.told,
    ),
)  # fmt: skip


class Follower:
    """How long what one in-process watch has at hand waits for its turn: its cache shows nothing
    newer meanwhile."""

    def __init__(self, resource: str, of: set[Follower]) -> None:
        self.resource = resource
        self._of = of
        self._since: float | None = None
        self._last = 0.0
        of.add(self)

    @property
    def seconds(self) -> float:
        """Of the events being taken, or where there are none, of the last ones."""
        if self._since is None:
            return self._last
        return max(self._last, perf_counter() - self._since)

    def took(self) -> None:
        self._since = perf_counter()

    def done(self) -> None:
        if self._since is not None:
            self._last = perf_counter() - self._since
        self._since = None

    def close(self) -> None:
        self._of.discard(self)


class Telemetry(Collector):
    """All API servers of this process together."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._requests: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}
        self._followers: set[Follower] = set()

    def follower(self, resource: str) -> Follower:
        """A watch in this process begins."""
        return Follower(resource, self._followers)

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
        yield from self._of_caches()
        yield self._lag()

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

    def _lag(self) -> Metric:
        slowest: dict[str, float] = {}
        for follower in self._followers:
            known = slowest.get(follower.resource, 0.0)
            slowest[follower.resource] = max(known, follower.seconds)
        lag = GaugeMetricFamily(
            "meshkube_api_local_watch_lag_seconds",
            "How far the slowest watch in this process is behind: its cache shows nothing newer.",
            labels=("resource",),
        )
        for resource, seconds in slowest.items():
            lag.add_metric((resource,), seconds)
        return lag

    def _of_caches(self) -> Iterator[Metric]:
        for family, name, text, count in _OF_CACHES:
            totals: dict[str, int] = {}
            for source in self.sources:
                for cache in source.caches:
                    resource = cache.kind.resource
                    totals[resource] = totals.get(resource, 0) + count(cache)
            metric = family(name, text, labels=("resource",))  # type: ignore[call-arg]
            for resource, total in totals.items():
                metric.add_metric((resource,), total)  # type: ignore[attr-defined]
            yield metric


TELEMETRY = Telemetry()
REGISTRY.register(TELEMETRY)
