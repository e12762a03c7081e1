"""Which pod a client or a key is bound to: cookie affinity and consistent hashing. Pure.

Every node decides alike without asking the others: both hang on nothing but the pods' addresses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b

from meshkube.ingress.endpoints import Balancer, Endpoint

_POINTS = 64
"""Of each pod on the ring: with 10 pods the busiest gets about a fifth more than its share."""

Pick = Callable[[Balancer, float, Sequence[Endpoint]], Endpoint | None]
"""From a balancer, the time and the pods already tried to a pod."""


def badge(endpoint: Endpoint) -> str:
    """What a cookie says of a pod: its address is not told."""
    return blake2b(str(endpoint).encode(), digest_size=12, person=b"mk-affinity").hexdigest()


def bound(value: str) -> Pick:
    """The pod whose badge a client shows, for as long as it serves."""

    def pick(balancer: Balancer, now: float, tried: Sequence[Endpoint]) -> Endpoint | None:
        for endpoint in balancer.endpoints:
            if badge(endpoint) == value:
                if endpoint not in tried and not endpoint.shunned(now):
                    return endpoint
                break
        return balancer.pick(now, tried)

    return pick


def hashed(key: str) -> Pick:
    """The pod that a key belongs to: when pods come and go, only their own keys move."""

    def pick(balancer: Balancer, now: float, tried: Sequence[Endpoint]) -> Endpoint | None:
        ring = ring_of(balancer)
        if not ring:
            return None
        at = bisect_right(ring, (_point(key), len(balancer.endpoints)))
        untried: Endpoint | None = None
        seen: set[int] = set()
        for step in range(len(ring)):
            index = ring[(at + step) % len(ring)][1]
            if index in seen:
                continue
            seen.add(index)
            endpoint = balancer.endpoints[index]
            if endpoint in tried:
                continue
            if not endpoint.shunned(now):
                return endpoint
            untried = untried or endpoint
        return untried

    return pick


def least(balancer: Balancer, now: float, tried: Sequence[Endpoint]) -> Endpoint | None:
    """The pod with the fewest requests under way; of equals the next in turn."""
    size = len(balancer.endpoints)
    at = balancer.next % size if size else 0
    balancer.next = at + 1
    order = [*balancer.endpoints[at:], *balancer.endpoints[:at]]
    good = [each for each in order if each not in tried and not each.shunned(now)]
    if good:
        return min(good, key=lambda endpoint: endpoint.active)
    return balancer.pick(now, tried)


def ring_of(balancer: Balancer) -> list[tuple[int, int]]:
    """Points on the ring and the pods they stand for, in order."""
    if balancer.ring is None:
        balancer.ring = sorted(
            (_point(f"{endpoint}#{number}"), index)
            for index, endpoint in enumerate(balancer.endpoints)
            for number in range(_POINTS)
        )
    return balancer.ring


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())
