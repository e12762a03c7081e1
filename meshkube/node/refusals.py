"""What a pod may ask for that this node cannot give: such a pod fails before anything of it runs,
with a reason, as the kubelet's admission does it. Pure.

Source: Kubernetes documentation, "Pod Lifecycle" and "Using sysctls in a Kubernetes Cluster".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from meshkube.api.types import Object


class Ending(NamedTuple):
    """Why the node puts an end to a pod: `reason` and `message` of its status."""

    reason: str
    message: str
    disrupts: bool = False
    """The pod had done nothing wrong: the node makes room, and whoever made the pod is told so."""


# Those that change nothing outside the pod.
SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
})  # fmt: skip


def refusal(pod: Object) -> Ending | None:
    """Why the pod cannot run here; None where it can."""
    spec = pod["spec"]
    for check in _CHECKS:
        found = check(spec)
        if found is not None:
            return found
    return None


def _system(spec: Object) -> Ending | None:
    name = (spec.get("os") or {}).get("name") or "linux"
    if name == "linux":
        return None
    message = "Failed to admit pod as the OS field doesn't match node OS"
    return Ending("PodOSNotSupported", message)


def _sysctls(spec: Object) -> Ending | None:
    for entry in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = str(entry["name"]).replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return Ending("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')
        if spec.get("hostNetwork") and name.startswith("net."):
            message = f'forbidden sysctl: "{name}" not allowed with host net enabled'
            return Ending("SysctlForbidden", message)
    return None


def _groups(spec: Object) -> Ending | None:
    policy = (spec.get("securityContext") or {}).get("supplementalGroupsPolicy")
    if policy != "Strict":
        return None
    message = "SupplementalGroupsPolicy=Strict is not supported in this node"
    return Ending("SupplementalGroupsPolicyNotSupported", message)


def _users(spec: Object) -> Ending | None:
    if spec.get("hostUsers") is not False:
        return None
    message = "user namespaces (hostUsers: false) are not supported: Docker has one for all pods"
    return Ending("UserNamespacesNotSupported", message)


def _claims(spec: Object) -> Ending | None:
    if not spec.get("resourceClaims"):
        return None
    message = "dynamic resource allocation (resourceClaims) is not supported on this node"
    return Ending("UnexpectedAdmissionError", message)


def _devices(spec: Object) -> Ending | None:
    for container in _containers(spec):
        name, why = container["name"], ""
        if container.get("volumeDevices"):
            why = "block volumes (volumeDevices) are not supported"
        mounts = container.get("volumeMounts") or ()
        if any(mount.get("recursiveReadOnly") == "Enabled" for mount in mounts):
            why = "recursiveReadOnly: Enabled is not supported"
        if why:
            return Ending("UnexpectedAdmissionError", f"container {name}: {why}")
    return None


def _containers(spec: Object) -> Iterator[Object]:
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]


_CHECKS: tuple[Callable[[Object], Ending | None], ...] = (
    _system,
    _sysctls,
    _groups,
    _users,
    _claims,
    _devices,
)
