"""What the DNS server counts: plain integers on the hot path, read when Prometheus asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from meshkube.dns import records, wire
from meshkube.dns.cache import Tally
from meshkube.dns.health import Health
from meshkube.dns.settings import Server

How = Literal["zone", "cache", "forward", "forward_cache", "stale", "failed", "limited"]
"""`cache`: a finished answer; `zone`: made from records; `forward`: asked of an upstream."""

BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Seconds."""
_TYPES = {
    getattr(records, name): name
    for name in ("A", "AAAA", "SRV", "PTR", "CNAME", "SOA", "TXT", "NS", "HINFO", "ANY")
}
_RCODES = {
    getattr(wire, name): name
    for name in ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS")
}


class Latency:
    """How long answers took, from the packet in hand to the answer sent."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """`count` answers, each within `seconds`."""
        self._counts[bisect_left(BUCKETS, seconds)] += count
        self._sum += seconds * count

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound, answers up to it) each, and the sum of seconds."""
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum


class Counters(Collector):
    """Counts since the start."""

    def __init__(
        self, cached: Callable[[], int], names: Callable[[], int], limited: Callable[[], int]
    ) -> None:
        self.malformed = 0
        self.local = Latency()
        """Answers from memory; those of one batch of packets count as the whole batch took."""
        self.forwarded = Latency()
        self.health: Health | None = None
        self.servers: Callable[[], Iterable[Server]] = list
        self._tallies: dict[tuple[int, int, str], Tally] = {}
        self._gauges = {"cached_answers": cached, "names": names}
        self._limited = limited

    def tally(self, kind: int, rcode: int, how: How) -> Tally:
        """The number to add to for each answer of this type and code that came about so."""
        key = (kind if kind in _TYPES else 0, rcode, how)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = [0]
        return found

    def count(self, kind: int, rcode: int, how: How) -> None:
        """One more."""
        self.tally(kind, rcode, how)[0] += 1

    def total(self, how: How) -> int:
        """All answers that came about so."""
        return sum(tally[0] for (*_, each), tally in self._tallies.items() if each == how)

    def collect(self) -> Iterable[Metric]:
        answers = CounterMetricFamily(
            "meshkube_dns_answers",
            "Answers by type of the question, code and the way they came about",
            labels=["type", "rcode", "how"],
        )
        for (kind, rcode, how), tally in self._tallies.items():
            labels = [_TYPES.get(kind, "other"), _RCODES.get(rcode, str(rcode)), how]
            answers.add_metric(labels, tally[0])
        yield answers
        yield CounterMetricFamily(
            "meshkube_dns_malformed", "Packets that are no query", self.malformed
        )
        yield CounterMetricFamily(
            "meshkube_dns_limited", "Answers above a client's limit", self._limited()
        )
        yield self._latency()
        for name, read in self._gauges.items():
            yield GaugeMetricFamily(f"meshkube_dns_{name}", name.replace("_", " "), read())
        yield from self._upstreams()

    def _latency(self) -> Metric:
        took = HistogramMetricFamily(
            "meshkube_dns_answer_seconds", "From a packet in hand to its answer", labels=["how"]
        )
        for how, latency in (("local", self.local), ("forwarded", self.forwarded)):
            buckets, total = latency.buckets()
            took.add_metric([how], buckets, total)
        return took

    def _upstreams(self) -> Iterable[Metric]:
        if self.health is None:
            return
        asked = CounterMetricFamily(
            "meshkube_dns_upstream_questions", "Questions to a server", labels=["server"]
        )
        failed = CounterMetricFamily(
            "meshkube_dns_upstream_failures", "Questions without an answer", labels=["server"]
        )
        up = GaugeMetricFamily(
            "meshkube_dns_upstream_up", "1 while the server answers", labels=["server"]
        )
        for server in self.servers():
            labels = [f"{server[0]}:{server[1]}"]
            asked.add_metric(labels, self.health.asked.get(server, 0))
            failed.add_metric(labels, self.health.failures.get(server, 0))
            up.add_metric(labels, int(self.health.is_up(server)))
        yield from (asked, failed, up)
