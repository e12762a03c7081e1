"""Which pod gets a request: the state kept for each pod, and the choice among them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import random
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
    since: float = 0.0
    """When it came to other pods, for a slow start; 0: long ago."""

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


class CarefulBalancer(Balancer):
    """One that spares pods: new ones get their share bit by bit, and none gets more requests at one
    time than a setting says. Only where a setting asks for either."""

    __slots__ = ("draw", "most", "slow")

    def __init__(
        self,
        addresses: tuple[Address, ...],
        endpoints: Sequence[Endpoint],
        settings: Settings,
        draw: Callable[[], float] = random,
    ) -> None:
        """`draw` gives numbers from 0 to (not with) 1."""
        super().__init__(addresses, endpoints)
        self.slow = settings.slow_start
        self.most = settings.pod_requests
        self.draw = draw

    def pick(self, now: float, tried: Sequence[Endpoint] = ()) -> Endpoint | None:
        size = len(self.endpoints)
        at = self.next % size if size else 0
        self.next = at + 1
        order = self.endpoints[at:] + self.endpoints[:at]
        free = [each for each in order if each not in tried and not self._full(each)]
        good = [each for each in free if not each.shunned(now)]
        best = [each for each in good if not self._spared(each, now)] or good
        if best:
            return best[1] if len(best) > 1 and best[1].active < best[0].active else best[0]
        return min(free, key=lambda endpoint: endpoint.ejected_until, default=None)

    def _full(self, endpoint: Endpoint) -> bool:
        return 0 < self.most <= endpoint.active

    def _spared(self, endpoint: Endpoint, now: float) -> bool:
        """Whether a new pod is passed over this time."""
        if not self.slow or not endpoint.since:
            return False
        share = (now - endpoint.since) / self.slow
        return share < 1 and self.draw() > max(share, 0.1)


def balancer_of(
    backend: Backend,
    endpoint_at: Callable[[Address, Via], Endpoint],
    settings: Settings,
    now: float,
) -> Balancer:
    """The backend's balancer, made anew when its addresses have changed."""
    balancer: Balancer | None = backend.balancer
    if balancer is None or balancer.addresses is not backend.addresses:
        endpoints = [endpoint_at(address, backend.via) for address in backend.addresses]
        if settings.slow_start or settings.pod_requests:
            for endpoint in endpoints:
                # With nobody beside it, a pod has nobody to leave its share to.
                new = balancer is not None and endpoint not in balancer.endpoints
                endpoint.since = now if new else endpoint.since
            balancer = CarefulBalancer(backend.addresses, endpoints, settings)
        else:
            balancer = Balancer(backend.addresses, endpoints)
        backend.balancer = balancer
        if len(endpoints) > 1:
            # Not every proxy and every change should begin at the first pod.
            balancer.next = id(balancer) // 64 % len(endpoints)
    return balancer
