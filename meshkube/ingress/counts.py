"""What a worker has counted since it last said so, and where that is added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from meshkube.ingress.stats import RouteStats

if TYPE_CHECKING:
    from meshkube.ingress.proxy import Proxy


def taken(proxy: Proxy) -> dict[str, Any]:
    """The counts of a proxy, which begins anew with nothing."""
    routes = [
        [stats.ingress, stats.host, stats.path, stats.service, *_emptied(stats)]
        for stats in dict.fromkeys(route.stats for route in proxy.table.routes)
        if stats.codes
    ]
    found = {
        "clients": len(proxy.clients),
        "connections": proxy.connections,
        "retries": proxy.retries,
        "refused": _emptied(proxy.refused),
        "routes": routes,
    }
    proxy.connections = proxy.retries = 0
    if proxy.access_log is not None:
        found["dropped"], proxy.access_log.dropped = proxy.access_log.dropped, 0
    return found


def _emptied(stats: RouteStats) -> list[Any]:
    # JSON has no numbers for keys.
    found = [list(stats.codes.items()), stats.times, stats.seconds]
    stats.codes, stats.times = {}, [0] * len(stats.times)
    stats.seconds = 0.0
    return found


def add(proxy: Proxy, counts: dict[str, Any]) -> None:
    """Adds up what a worker says in the proxy of the daemon. Routes that are gone since then are
    left out."""
    proxy.connections += counts["connections"]
    proxy.retries += counts["retries"]
    if proxy.access_log is not None:
        proxy.access_log.dropped += counts.get("dropped", 0)
    _add(proxy.refused, counts["refused"])
    if counts["routes"]:
        known = {_name(stats): stats for stats in (route.stats for route in proxy.table.routes)}
        for ingress, host, path, service, *more in counts["routes"]:
            stats = known.get((ingress, host, path, service))
            if stats is not None:
                _add(stats, more)


def _name(stats: RouteStats) -> tuple[str, str, str, str]:
    return stats.ingress, stats.host, stats.path, stats.service


def _add(stats: RouteStats, more: Iterable[Any]) -> None:
    codes, times, seconds = more
    for status, count in codes:
        stats.codes[status] = stats.codes.get(status, 0) + count
    stats.times = [a + b for a, b in zip(stats.times, times, strict=True)]
    stats.seconds += seconds
