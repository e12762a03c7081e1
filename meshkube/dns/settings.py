"""What the ConfigMap `kube-system/meshkube-dns` may say, and what holds without it. Pure.

The keys that kube-dns had keep their names and form (Kubernetes documentation, "Customizing DNS
Service"); the values of `pods` are those of CoreDNS.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import yaml

from meshkube.dns import names

NAMESPACE, NAME = "kube-system", "meshkube-dns"
PORT = 53
# As CoreDNS: short enough that a moved Service is found, long enough to spare the server.
DEFAULT_TTL = 5
LONGEST_TTL = 3600
LONGEST_STALE = 7 * 86400

Server = tuple[str, int]
"""(address, port) of a name server."""
PodMode = Literal["disabled", "insecure", "verified"]
Log = Literal["off", "errors", "all"]


class SettingsError(ValueError):
    """Every fault of the ConfigMap, each naming its key."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose while DNS runs."""

    upstreams: tuple[Server, ...] | None = None
    """Who is asked about names outside; None: the host's own name servers."""
    stub_domains: Mapping[str, tuple[Server, ...]] = field(default_factory=dict)
    """Domain -> who is asked about it and all below it. The longest domain counts."""
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(address, names), as in hosts(5)."""
    ttl: int = DEFAULT_TTL
    """Seconds that an answer about the cluster may be kept."""
    pods: PodMode = "insecure"
    autopath: bool = True
    prefetch: bool = True
    serve_stale: int = 3600
    """Seconds that an answer may be given after its end while no upstream answers (RFC 8767)."""
    rate_limit: int = 0
    """Answers a second over UDP for each client; 0: no limit."""
    outside_rate_limit: int = 1000
    """The same for clients outside the cluster's networks."""
    log: Log = "errors"


def parse(data: Mapping[str, str]) -> Settings:
    """The settings of a ConfigMap's `data`. Raises `SettingsError` with every fault."""
    faults: list[str] = []
    found: dict[str, Any] = {}
    for key, text in data.items():
        row = _KEYS.get(key)
        if row is None:
            near = difflib.get_close_matches(key, _KEYS, 1)
            faults.append(f"{key}: no such setting" + (f" (did you mean {near[0]}?)" * bool(near)))
            continue
        name, read = row
        try:
            found[name] = read(text)
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if faults:
        raise SettingsError(faults)
    return replace(Settings(), **found)


def server(text: object) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no address of a name server")
    host, port = text.strip(), str(PORT)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is no address of a name server") from None
    return host, _number(port, 1, 65535)


def _servers(text: object) -> tuple[Server, ...]:
    if not isinstance(text, list) or not text:
        raise ValueError("must be a list of name servers")
    return tuple(server(each) for each in text)


def _yaml(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError("is neither JSON nor YAML") from None


def _upstreams(text: str) -> tuple[Server, ...]:
    return _servers(_yaml(text))


def _stub_domains(text: str) -> dict[str, tuple[Server, ...]]:
    found = _yaml(text)
    if not isinstance(found, dict):
        raise ValueError("must map domains to lists of name servers")
    domains = {}
    for domain, listed in found.items():
        names.encode(str(domain))
        domains[str(domain).strip(".").lower()] = _servers(listed)
    return domains


def _hosts(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        address = str(ipaddress.ip_address(words[0]))
        if len(words) == 1:
            raise ValueError(f"{address} has no name")
        for name in words[1:]:
            names.encode(name)
        rows.append((address, tuple(words[1:])))
    return tuple(rows)


def _number(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not least <= number <= most:
        raise ValueError(f"must be from {least} to {most}, not {number}")
    return number


def _between(least: int, most: int) -> Callable[[str], int]:
    return lambda text: _number(text.strip(), least, most)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.strip() not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {text.strip()!r}")
        return text.strip()

    return read


def _switch(text: str) -> bool:
    return _one_of("on", "off")(text) == "on"


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "upstreamNameservers": ("upstreams", _upstreams),
    "stubDomains": ("stub_domains", _stub_domains),
    "hosts": ("hosts", _hosts),
    "ttl": ("ttl", _between(0, LONGEST_TTL)),
    "pods": ("pods", _one_of("disabled", "insecure", "verified")),
    "autopath": ("autopath", _switch),
    "prefetch": ("prefetch", _switch),
    "serveStale": ("serve_stale", _between(0, LONGEST_STALE)),
    "rateLimit": ("rate_limit", _between(0, 1_000_000)),
    "outsideRateLimit": ("outside_rate_limit", _between(0, 1_000_000)),
    "log": ("log", _one_of("off", "errors", "all")),
}
