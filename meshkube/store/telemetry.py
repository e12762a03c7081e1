"""What the stores count."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from meshkube.metrics import REGISTRY

COMMIT_SECONDS = Histogram(
    "meshkube_store_commit_seconds",
    "Time from taking a group of writes (SQLite) or sending one (etcd) to its being durable.",
    registry=REGISTRY,
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1, 5),
)
WRITES = Counter("meshkube_store_writes", "Writes that took effect.", registry=REGISTRY)
FAILOVERS = Counter(
    "meshkube_store_failovers", "Times another etcd member was turned to.", registry=REGISTRY
)
