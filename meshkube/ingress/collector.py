"""The ingress' counts in Prometheus' form, read out of plain integers when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from meshkube.ingress.proxy import Proxy
from meshkube.ingress.stats import BUCKETS, RouteStats

_LABELS = ["ingress", "host", "path", "service"]
_KNOWN = frozenset(map(int, HTTPStatus))


class ProxyCollector(Collector):
    """The metrics of one proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def collect(self) -> Iterator[Metric]:
        proxy = self._proxy
        yield GaugeMetricFamily(
            "meshkube_ingress_connections",
            "Clients connected now",
            value=len(proxy.clients) + proxy.elsewhere,
        )
        yield CounterMetricFamily(
            "meshkube_ingress_accepted", "Connections of clients so far", value=proxy.connections
        )
        yield CounterMetricFamily(
            "meshkube_ingress_retries", "Requests sent again", value=proxy.retries
        )
        log = proxy.access_log
        yield CounterMetricFamily(
            "meshkube_ingress_access_log_dropped",
            "Lines of the access log that could not be written",
            value=log.dropped if log is not None else 0,
        )
        requests = CounterMetricFamily(
            "meshkube_ingress_requests",
            "Requests by rule and status",
            labels=[*_LABELS, "code"],
        )
        seconds = HistogramMetricFamily(
            "meshkube_ingress_request_seconds",
            "From a request's head to its response's end",
            labels=_LABELS,
        )
        _requests(requests, proxy.refused)
        for stats in dict.fromkeys(route.stats for route in proxy.table.routes):
            _requests(requests, stats)
            if any(stats.times):
                seconds.add_metric(_label_values(stats), _buckets(stats), stats.seconds)
        yield requests
        yield seconds


def _label_values(stats: RouteStats) -> list[str]:
    return [stats.ingress, stats.host, stats.path, stats.service]


def _requests(family: CounterMetricFamily, stats: RouteStats) -> None:
    found: dict[str, int] = {}
    for status, count in tuple(stats.codes.items()):
        name = _code(status)
        found[name] = found.get(name, 0) + count
    for name, count in found.items():
        family.add_metric([*_label_values(stats), name], count)


def _code(status: int) -> str:
    """A pod may make up statuses, and metrics may not grow by that."""
    if status in _KNOWN:
        return str(status)
    return f"{status // 100}xx" if status else "aborted"


def _buckets(stats: RouteStats) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    total = 0
    found = []
    for bound, count in zip(bounds, stats.times, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
