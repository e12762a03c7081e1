"""Service level indicators: what the health checks of the parts say, as Prometheus metrics at
`/metrics/slis`. Source: Kubernetes documentation, "Kubernetes Component SLI Metrics".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from meshkube.parts import Health

_LABELS = ("name", "type")
_CHECK = "readyz"


class Indicators(Collector):
    """The checks of `/readyz`, part by part, and one that this process answers at all; whoever
    reads them makes one check of each."""

    def __init__(self, health: Callable[[], Mapping[str, Health]]) -> None:
        self._health = health
        self._seen: Counter[tuple[str, str]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing is checked for being known."""
        return []

    def collect(self) -> Iterator[Metric]:
        good = {"ping": True, **{name: one.ready for name, one in self._health().items()}}
        now = GaugeMetricFamily(
            "kubernetes_healthcheck", "Result of one health check: 1 for success.", labels=_LABELS
        )
        total = CounterMetricFamily(
            "kubernetes_healthchecks",
            "Results of all health checks so far.",
            labels=(*_LABELS, "status"),
        )
        for name, ready in good.items():
            self._seen[name, "success" if ready else "error"] += 1
            now.add_metric((name, _CHECK), int(ready))
        for (name, status), count in sorted(self._seen.items()):
            total.add_metric((name, _CHECK, status), count)
        yield from (now, total)
