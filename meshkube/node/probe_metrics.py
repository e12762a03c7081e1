"""How the probes of this node's containers end: the kubelet's `/metrics/probes`.

Source: the Kubernetes documents, "Kubernetes Metrics Reference" (`prober_probe_total`).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from meshkube.node.runtime import Record

_LABELS = ("probe_type", "container", "pod", "namespace")
_KINDS = {"startup": "Startup", "readiness": "Readiness", "liveness": "Liveness"}
_RESULTS = ("successful", "failed")


class ProbeMetrics:
    """Counts tries by probe; those of a container go with it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._total = Counter(
            "prober_probe",
            "Tries of a container's probe, by result",
            ["result", *_LABELS, "pod_uid"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "prober_probe_duration_seconds",
            "Seconds that a try took",
            _LABELS,
            registry=self._registry,
        )

    def tried(self, record: Record, kind: str, good: bool, seconds: float) -> None:
        labels = _labels(record, kind)
        result = _RESULTS[0] if good else _RESULTS[1]
        self._total.labels(result, *labels, record.pod.uid).inc()
        self._seconds.labels(*labels).observe(seconds)

    def forget(self, record: Record, kind: str) -> None:
        """The container is gone."""
        labels = _labels(record, kind)
        for result in _RESULTS:
            self._total.remove(result, *labels, record.pod.uid)
        self._seconds.remove(*labels)

    def exposition(self) -> str:
        return generate_latest(self._registry).decode()


def _labels(record: Record, kind: str) -> tuple[str, str, str, str]:
    return _KINDS[kind], record.name, record.pod.name, record.pod.namespace


PROBES = ProbeMetrics()
"""Of this process's node."""
