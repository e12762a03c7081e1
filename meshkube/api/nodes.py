"""Where a Node's agent listens. Pure."""

from __future__ import annotations

from meshkube.api import errors, meta
from meshkube.api.types import Object

NODE_PORT = 10250


def node_url(node: Object) -> str:
    """`https://ADDRESS:PORT`. Raises `ApiError` 503 where the Node does not say."""
    status = node.get("status") or {}
    # Of a node of both families the first is the one where it listens.
    listed = reversed(status.get("addresses") or ())
    addresses = {one.get("type"): one.get("address") for one in listed}
    address = addresses.get("InternalIP") or addresses.get("Hostname")
    endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    if not address:
        raise errors.unavailable(f"node {meta.name(node)} has no address")
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{endpoint.get('Port') or NODE_PORT}"


def is_ready(node: Object) -> bool:
    """Whether its condition `Ready` holds."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
