"""What the control plane and the nodes say to each other about LoadBalancer addresses. Pure."""

from __future__ import annotations

from meshkube.api import meta
from meshkube.api.types import Object

FROM_POOL = "meshkube.io/AddressFromPool"
"""The condition of a Service whose addresses one of the nodes announces on its link."""
ANNOUNCER_LEASES = "kube-system"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def announcer_lease(node: str) -> str:
    """The name of the Lease by which a node says that it can announce addresses."""
    return f"meshkube-announcer-{node}"


def pool_addresses(service: Object) -> list[str]:
    """The addresses of the Service that came out of a pool."""
    status = service.get("status") or {}
    if not any(entry.get("type") == FROM_POOL for entry in status.get("conditions") or ()):
        return []
    return balancer_addresses(service)


def balancer_addresses(service: Object) -> list[str]:
    """Those at which the Service is reached from outside, as its status says."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [str(entry["ip"]) for entry in balancer.get("ingress") or () if entry.get("ip")]


def balanced_to(node: Object) -> bool:
    """Whether traffic from outside may be sent to a node: ready, and not left out by its label."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return ready and EXCLUDED not in meta.labels(node)
