"""Which node announces which LoadBalancer address. Pure, and the same on every node.

Each node that can announce renews a Lease. Of the nodes with a fresh one, a hash of node and
address picks one for each address: a node that goes moves its own addresses and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from meshkube.api import meta
from meshkube.api.balancing import balanced_to, pool_addresses
from meshkube.api.types import Object

DURATION = 3.0
"""Seconds after its last renewal that a node's Lease is fresh."""
SETTLED = 2.0
"""Seconds of renewals after which a node counts: a little before it may judge itself, so that nodes
that start together agree from the start."""


def owner(address: str, nodes: Iterable[str]) -> str:
    """The node that announces an address; empty where there is none to choose from."""
    return max(nodes, key=lambda node: hashlib.sha256(f"{address} {node}".encode()).digest(),
               default="")  # fmt: skip


def owners(
    services: Iterable[Object],
    nodes: Iterable[Object],
    alive: Collection[str],
    local: Callable[[Object], Collection[str]],
) -> dict[str, str]:
    """Address -> its node. `local` gives the nodes with endpoints of a Service: no others count
    where its `externalTrafficPolicy` is Local."""
    able = {meta.name(node) for node in nodes if balanced_to(node)} & set(alive)
    found = {}
    for service in services:
        candidates = able
        if (service.get("spec") or {}).get("externalTrafficPolicy") == "Local":
            candidates = able & set(local(service))
        for address in pool_addresses(service):
            found[address] = owner(address, candidates)
    return found


def nodes_of(slices: Iterable[Object]) -> set[str]:
    """The nodes with endpoints that are ready."""
    return {
        str(endpoint["nodeName"])
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get("ready") is not False
    }


@dataclass(slots=True)
class Pulse:
    """Who renews, counted on this host's steady clock from when each renewal was seen."""

    me: str
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Node -> its last renewal, and when that was seen."""
    _since: dict[str, float] = field(default_factory=dict)
    """Since when renewals have been seen without a gap."""

    def saw(self, renewals: Mapping[str, str], now: float) -> None:
        """`renewals`: node -> the time that its Lease says, as the watch has it now."""
        for node in self._seen.keys() - renewals.keys():
            del self._seen[node]
        for node, sign in renewals.items():
            if self._seen.get(node, ("", 0.0))[0] != sign:
                self._seen[node] = (sign, now)
        fresh = {node for node, (_, at) in self._seen.items() if now - at < DURATION}
        self._since = {node: self._since.get(node, now) for node in fresh}

    def alive(self, now: float) -> set[str]:
        """The nodes that count."""
        return {
            node
            for node, since in self._since.items()
            if now - since >= SETTLED and now - self._seen[node][1] < DURATION
        }

    def may_judge(self, now: float) -> bool:
        """Whether the silence of others means something. While the API is away, or has just come
        back, everybody is silent: then nothing is taken over and nothing given up."""
        return self.me in self.alive(now) and now - self._since[self.me] >= DURATION
