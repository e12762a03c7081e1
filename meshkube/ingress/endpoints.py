"""Which pod gets a request: the state kept for each pod, and the choice among them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshkube.ingress.backends import Address, Backend
from meshkube.ingress.settings import Settings
from meshkube.ingress.via import PLAIN, Via


@dataclass(slots=True, eq=False, weakref_slot=True)
class Endpoint:
    """A pod's address and port as the proxy knows it, shared by all routes that lead there."""

    address: Address
    via: Via = PLAIN
    """How the pod is spoken to."""
    idle: list[Any] = field(default_factory=list)
    """Unused connections, the last used at the end: that one is taken first."""
    connections: set[Any] = field(default_factory=set)
    """All that are open."""
    attempts: set[Any] = field(default_factory=set)
    """Those being made: what ends each attempt."""
    waiting: list[Any] = field(default_factory=list)
    """Requests for the HTTP/2 connection that is being made."""
    active: int = 0
    """Requests under way."""
    failures: int = 0
    """In a row: it could not be connected to, or died before it answered."""
    ejected_until: float = 0.0

    def __str__(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def shunned(self, now: float) -> bool:
        """It failed and its time is not over; or it is, and one request tries it just now."""
        return self.ejected_until > now or bool(self.failures and self.attempts)

    def connected(self) -> None:
        self.failures = 0
        self.ejected_until = 0.0

    def failed(self, now: float, settings: Settings) -> None:
        """The pod does not work: pass over it for a while, longer each time. What fails while it is
        passed over is the same misfortune, such as all requests to a host that died."""
        if now < self.ejected_until:
            return
        pause = min(settings.eject * 2.0**self.failures, settings.longest_eject)
        self.failures = min(self.failures + 1, 16)
        self.ejected_until = now + pause


class Balancer:
    """Round robin; of two neighbours the one with fewer requests under way."""

    __slots__ = ("addresses", "endpoints", "next", "ring")

    def __init__(self, addresses: tuple[Address, ...], endpoints: Sequence[Endpoint]) -> None:
        self.addresses = addresses
        self.endpoints = list(endpoints)
        self.next = 0
        self.ring: list[tuple[int, int]] | None = None
        """For consistent hashing, made when somebody asks."""

    def pick(self, now: float, tried: Sequence[Endpoint] = ()) -> Endpoint | None:
        """The pod for the next request, not one already tried; those ejected only when there is
        no other. None when every pod was tried."""
        endpoints = self.endpoints
        size = len(endpoints)
        at = self.next
        if at >= size:
            at = 0
        self.next = at + 1
        endpoint = endpoints[at]
        other = endpoints[at - 1]
        if other.active < endpoint.active:
            endpoint = other
        if not tried and (not endpoint.failures or not endpoint.shunned(now)):
            return endpoint
        return self._pick_carefully(now, tried, at)

    def _pick_carefully(self, now: float, tried: Sequence[Endpoint], at: int) -> Endpoint | None:
        order = self.endpoints[at:] + self.endpoints[:at]
        untried = [endpoint for endpoint in order if endpoint not in tried]
        good = [endpoint for endpoint in untried if not endpoint.shunned(now)]
        if good:
            return min(good, key=lambda endpoint: endpoint.active)
        return min(untried, key=lambda endpoint: endpoint.ejected_until, default=None)


def balancer_of(backend: Backend, endpoint_at: Callable[[Address, Via], Endpoint]) -> Balancer:
    """The backend's balancer, made anew when its addresses have changed."""
    balancer: Balancer | None = backend.balancer
    if balancer is None or balancer.addresses is not backend.addresses:
        endpoints = [endpoint_at(address, backend.via) for address in backend.addresses]
        balancer = backend.balancer = Balancer(backend.addresses, endpoints)
        if len(endpoints) > 1:
            # Not every proxy and every change should begin at the first pod.
            balancer.next = id(balancer) // 64 % len(endpoints)
    return balancer
