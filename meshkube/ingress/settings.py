"""The limits and time-outs of the proxy, with defaults that suit an edge. Times are in seconds,
sizes in bytes; 0 means no limit where that is said."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    max_head: int = 32_768
    """Of a request's or response's line and header fields together."""
    max_body: int = 0
    """Of a request's body; 0: none, since bodies only pass through."""
    head_timeout: float = 15.0
    """From the first byte of a request to the end of its head, also for the TLS handshake."""
    keep_alive_timeout: float = 75.0
    """Between two requests of a client."""
    body_timeout: float = 60.0
    """Without any progress while a body passes, either way."""
    connect_timeout: float = 1.2
    """For one attempt to connect to a pod. One lost SYN is sent again after 1 s."""
    silence_timeout: float = 3.0
    """A pod's host that acknowledges nothing for this long is taken to be dead or cut off: its
    connections end. A pod that only thinks for long is not concerned."""
    response_timeout: float = 60.0
    """From the end of a request to the first byte of its response."""
    tunnel_timeout: float = 3600.0
    """Without a byte in either direction of an upgraded connection."""
    linger: float = 2.0
    """How long what a refused client still sends is read and dropped, so that it can read why."""
    drain_timeout: float = 25.0
    """For requests in flight when the ingress stops."""
    upstream_idle: float = 30.0
    """How long an unused connection to a pod is kept."""
    upstream_fresh: float = 1.5
    """A request that may not be sent twice takes no connection that was unused for longer."""
    max_idle: int = 256
    """Unused connections kept for one pod."""
    max_connections: int = 20_000
    """Clients at one time."""
    retries: int = 2
    """Further attempts where that is safe."""
    eject: float = 2.0
    """A pod that cannot be connected to, or dies before it answers, is passed over for this long,
    doubled each time."""
    longest_eject: float = 30.0
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Clients whose X-Forwarded-* headers are believed and added to; of all others they are
    replaced."""
    access_log: Literal["off", "text", "json"] = "off"
    """The form of the line that each request gets. Failures are in the daemon's log in any case."""
    access_log_file: str = ""
    """Where these lines go; empty: standard output."""
    gzip: bool = False
    """Compress responses of compressible types for clients that take it."""
    trace: bool = False
    """Give each request a `traceparent` that came without one."""
    slow_start: float = 0.0
    """A pod that comes to others gets its full share of requests only after this time."""
    pod_requests: int = 0
    """Under way at one pod at one time; 0: no limit."""
    trusted_hops: int = 0
    """So many proxies are in front of the ingress, whatever their addresses; 0: those of
    `trusted_proxies`."""
    forwarded_header: bool = False
    """Whether pods get a Forwarded header beside X-Forwarded-*."""
    proxy_protocol: tuple[IPv4Network | IPv6Network, ...] = ()
    """Load balancers that begin each connection with a PROXY header."""
    hsts: int = 0
    """Seconds for which browsers are to use nothing but HTTPS for a host; 0: they are not told."""
