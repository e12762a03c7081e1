"""Where a Node and its agent are reached. Pure."""

from __future__ import annotations

import ipaddress

from meshkube.api import errors, meta
from meshkube.api.types import Object

NODE_PORT = 10250
INGRESS_KEY = "meshkube.io/ingress"
"""The annotation by which a Node says whether its host runs an ingress: `true` or `false`."""


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


def reachable_addresses(node: Object) -> dict[int, str]:
    """For each IP version that it has, 4 first: its first external address, or else its first
    internal one."""
    found: dict[tuple[str, int], str] = {}
    for one in (node.get("status") or {}).get("addresses") or ():
        address = str(one.get("address") or "")
        found.setdefault((str(one.get("type")), _version(address)), address)
    known = {
        version: found.get(("ExternalIP", version)) or found.get(("InternalIP", version), "")
        for version in (4, 6)
    }
    return {version: address for version, address in known.items() if address}


def _version(address: str) -> int:
    """4 or 6; 0 for what is no address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0
