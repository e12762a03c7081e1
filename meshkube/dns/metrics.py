"""What the DNS server counts: plain integers on the hot path, read when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from meshkube.dns import records, wire

_TYPES = {
    getattr(records, name): name for name in ("A", "AAAA", "SRV", "PTR", "CNAME", "SOA", "TXT")
}
_RCODES = {
    getattr(wire, name): name
    for name in ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS")
}


class Counters(Collector):
    """Counts since the start."""

    def __init__(self, cached: Callable[[], int], names: Callable[[], int]) -> None:
        self.hits = 0
        self.forwards = 0
        self.forwarded_hits = 0
        self.malformed = 0
        self.dropped = 0
        self._answers: dict[tuple[int, int], int] = {}
        self._cached = cached
        self._names = names

    def answered(self, kind: int, rcode: int) -> None:
        """Counts an answer that was made, not found in the cache."""
        key = (kind, rcode)
        self._answers[key] = self._answers.get(key, 0) + 1

    def collect(self) -> Iterable[Metric]:
        queries = CounterMetricFamily(
            "meshkube_dns_queries", "Queries by the way they were answered", labels=["how"]
        )
        for how in ("hits", "forwards", "forwarded_hits", "malformed", "dropped"):
            queries.add_metric([how], getattr(self, how))
        answers = CounterMetricFamily(
            "meshkube_dns_answers_made",
            "Answers made from the zone, by type and code",
            labels=["type", "rcode"],
        )
        for (kind, rcode), count in self._answers.items():
            labels = [_TYPES.get(kind, "other"), _RCODES.get(rcode, str(rcode))]
            answers.add_metric(labels, count)
        yield queries
        yield answers
        yield GaugeMetricFamily("meshkube_dns_cached_answers", "Kept answers", self._cached())
        yield GaugeMetricFamily("meshkube_dns_names", "Names with records", self._names())
