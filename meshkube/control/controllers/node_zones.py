"""When so many nodes fall silent that the fault is likelier ours than theirs. Pure.

Pods are then left where they are: moving them all to what is left would only add to the trouble.
Source: the "Nodes" concept page, "Rate limits on eviction".
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods

UNHEALTHY = 0.55
"""The share of a zone's nodes from which on the zone itself is taken to be in trouble."""
FEW = 2
"""So many nodes may always be down for reasons of their own."""


def ready_status(node: Object) -> str:
    """`True`, `False` or `Unknown`; a node that has said nothing is `Unknown`."""
    entry = pods.condition(node, "Ready")
    return str(entry["status"]) if entry else "Unknown"


def zone(node: Object) -> tuple[str, str]:
    """Region and zone; nodes without labels are all in one."""
    labels = meta.labels(node)
    return (
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
    )


def in_trouble(node: Object, nodes: Iterable[Object]) -> bool:
    """Whether pods stay bound to a silent node: no node of the cluster is ready, or most of its
    zone is not."""
    everything = list(nodes)
    if not any(ready_status(one) == "True" for one in everything):
        return True
    near = [one for one in everything if zone(one) == zone(node)]
    silent = sum(ready_status(one) != "True" for one in near)
    return silent > FEW and silent >= UNHEALTHY * len(near)
