"""What each setting must be: functions that raise `ValueError` with words about the value. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from meshkube import address_pool

SHORTEST_LIFE = timedelta(seconds=10)
PARTS_TO_DISABLE = (
    "controllers",
    "scheduler",
    "node",
    "network",
    "dataplane",
    "load-balancer",
    "dns",
    "ingress",
)


def as_duration(value: str) -> timedelta:
    """`365d`, `12h`, `30m`, `90s`."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", value)
    if found is None:
        raise ValueError(f"{value!r} is not a time such as 365d, 12h, 30m or 90s")
    return timedelta(**{units[found[2]]: int(found[1])})


def _lifetime(value: str) -> None:
    if as_duration(value) < SHORTEST_LIFE:
        raise ValueError(f"{value!r} is shorter than {SHORTEST_LIFE.seconds}s")


def _url(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{value!r} is not https://HOST:PORT")
    if parts.port == 0:
        raise ValueError(f"{value!r} has no port")


def _urls(values: tuple[str, ...]) -> None:
    for value in values:
        _url(value)


def _optional_url(value: str) -> None:
    if value:
        _url(value)


def _names(values: tuple[str, ...]) -> None:
    for value in values:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            _name(value)


def _one_of(*choices: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")

    return check


def _port(value: int) -> None:
    if not 0 < value < 65536:
        raise ValueError(f"{value} is not a port (1-65535)")


def _port_or_none(value: int) -> None:
    if value:
        _port(value)


def _seconds(value: int) -> None:
    if value <= 0:
        raise ValueError(f"{value} is not a number of seconds above 0")


def _percent(value: int) -> None:
    if not 0 <= value <= 100:
        raise ValueError(f"{value} is not a percentage (0-100)")


def _time(value: str) -> None:
    as_duration(value)


def _no_less_than_1(value: int) -> None:
    if value < 1:
        raise ValueError(f"{value} is less than 1")


def _no_less_than_0(value: float) -> None:
    if value < 0:
        raise ValueError(f"{value} is less than 0")


def _listen(value: str) -> None:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{value!r} is not ADDRESS:PORT")
    _port(int(port))
    ipaddress.ip_address(host.strip("[]"))


def networks(value: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """One, or one of each family."""
    found = [ipaddress.ip_network(text) for text in value.split(",")]
    if len({network.version for network in found}) < len(found):
        raise ValueError(f"{value!r} has two of one family")
    return found


def _each_network(values: Iterable[str]) -> None:
    for each in values:
        ipaddress.ip_network(each)


def _cidrs(value: str) -> None:
    networks(value)


def _address(value: str) -> None:
    ipaddress.ip_address(value)


def _optional_addresses(value: str) -> None:
    for address in filter(None, value.split(",")):
        ipaddress.ip_address(address)


def _name(value: str) -> None:
    if len(value) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", value):
        raise ValueError(f"{value!r} is not a DNS name in lower case")


def _port_range(value: str) -> None:
    low, dash, high = value.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) < 65536):
        raise ValueError(f"{value!r} is not a range of ports such as 30000-32767")


def _parts(value: tuple[str, ...]) -> None:
    for part in value:
        _one_of(*PARTS_TO_DISABLE)(part)


def _pool(value: tuple[str, ...]) -> None:
    address_pool.parse(value)


def _store(value: str) -> None:
    if value != "sqlite" and not value.startswith(("etcd://", "etcds://")):
        raise ValueError(f"{value!r} is neither sqlite nor etcd://HOST:PORT,HOST:PORT")


CHECKS: dict[str, Callable[[Any], None]] = {
    "node_name": _name,
    "node_ip": _optional_addresses,
    "listen": _listen,
    "tls_san": _names,
    "certificate_lifetime": _lifetime,
    "server": _urls,
    "join": _optional_url,
    "store": _store,
    "pod_cidr": _cidrs,
    "service_cidr": _cidrs,
    "cluster_dns": _address,
    "cluster_domain": _name,
    "dns_port": _port,
    "ingress_http": _port,
    "ingress_https": _port,
    "ingress_trusted_proxies": _each_network,
    "ingress_trusted_hops": _no_less_than_0,
    "ingress_proxy_protocol": _each_network,
    "ingress_forwarded": _one_of("on", "off"),
    "ingress_hsts": _no_less_than_0,
    "ingress_workers": _no_less_than_0,
    "ingress_access_log": _one_of("off", "text", "json"),
    "ingress_gzip": _one_of("on", "off"),
    "ingress_trace": _one_of("on", "off"),
    "ingress_slow_start": _no_less_than_0,
    "ingress_max_connections": _no_less_than_1,
    "ingress_pod_requests": _no_less_than_0,
    "ingress_pod_idle": _no_less_than_0,
    "ingress_pod_idle_seconds": _no_less_than_0,
    "node_port": _port,
    "proxy_health_port": _port_or_none,
    "proxy_status_port": _port_or_none,
    "node_ports": _port_range,
    "node_heartbeat": _seconds,
    "eviction_pressure_transition_period": _time,
    "image_gc_high_threshold": _percent,
    "image_gc_low_threshold": _percent,
    "minimum_image_age": _time,
    "hpa_cpu_initialization_period": _no_less_than_0,
    "hpa_downscale_stabilization": _no_less_than_0,
    "hpa_initial_readiness_delay": _no_less_than_0,
    "hpa_sync_period": _seconds,
    "hpa_tolerance": _no_less_than_0,
    "metrics_resolution": _seconds,
    "node_grace": _seconds,
    "default_toleration_seconds": _no_less_than_0,
    "runtime": _one_of("docker", "hollow"),
    "load_balancer_pool": _pool,
    "network": _one_of("auto", "routes", "vxlan"),
    "dataplane": _one_of("auto", "nftables", "userspace"),
    "disable": _parts,
    "log_format": _one_of("text", "json"),
    "log_level": _one_of("debug", "info", "warning", "error"),
}
"""By the name of the setting."""
