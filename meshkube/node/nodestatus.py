"""This host as a Node. Pure. Source: Kubernetes documentation, "Node Status"."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.machine import Machine
from meshkube.node.thresholds import Condition

MAX_PODS = 110
# What the kubelet keeps back by default.
MEMORY_RESERVE = 100 * 1024 * 1024
ROLE_LABEL = "node-role.kubernetes.io/"


def capacity(machine: Machine, max_pods: int = MAX_PODS) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory // 1024}Ki",
        "ephemeral-storage": f"{machine.disk // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "pods": str(max_pods),
    }


def allocatable(machine: Machine, max_pods: int = MAX_PODS) -> dict[str, str]:
    """What pods may ask for: the capacity without what the host itself needs."""
    return capacity(machine, max_pods) | {
        "memory": f"{max(0, machine.memory - MEMORY_RESERVE) // 1024}Ki",
        "ephemeral-storage": str(machine.disk * 9 // 10),
    }


def labels(name: str, machine: Machine, roles: tuple[str, ...]) -> dict[str, str]:
    return {
        # Older manifests still select by these, as the kubelet still sets them.
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        **{ROLE_LABEL + role: "" for role in roles},
    }


def new_node(
    name: str,
    machine: Machine,
    roles: tuple[str, ...],
    status: Object,
    annotations: Mapping[str, str] = {},
) -> Object:
    """The object that registers this host."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels(name, machine, roles),
            "annotations": dict(annotations),
        },
        "spec": {},
        "status": status,
    }


def status(
    *,
    name: str,
    addresses: Sequence[str],
    port: int,
    machine: Machine,
    max_pods: int,
    pressure: Collection[Condition],
    runtime: str,
    version: str,
    not_ready: str,
    images: list[Object] | None,
    old: Mapping[str, Any],
    now: datetime,
) -> Object:
    """`runtime` as in `docker://20.10.24`; `not_ready` is why no pod can run here now, or empty;
    `images` None where they are not known; `old` the status last written."""
    own = capacity(machine, max_pods)
    # What somebody else has counted on this node, such as devices: all of it is for pods.
    others = {
        name: amount for name, amount in (old.get("capacity") or {}).items() if name not in own
    }
    return {
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in addresses),
            {"type": "Hostname", "address": name},
        ],
        "capacity": own | others,
        "allocatable": allocatable(machine, max_pods) | others,
        "conditions": _conditions(pressure, not_ready, old, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "images": images if images is not None else list(old.get("images") or ()),
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": runtime,
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": version,
            "kubeletVersion": version,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
        },
    }


def _conditions(
    pressure: Collection[Condition], not_ready: str, old: Mapping[str, Any], now: datetime
) -> list[Object]:
    found = [
        _condition(
            "MemoryPressure", "MemoryPressure" in pressure, "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available", "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        _condition(
            "DiskPressure", "DiskPressure" in pressure, "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "KubeletHasNoDiskPressure", "kubelet has no disk pressure",
        ),
        _condition(
            "PIDPressure", "PIDPressure" in pressure, "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available", "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        _condition(
            "Ready", not not_ready, "KubeletReady", "kubelet is posting ready status",
            "KubeletNotReady", not_ready,
        ),
    ]  # fmt: skip
    known = {condition["type"]: condition for condition in old.get("conditions") or ()}
    stamp = meta.timestamp(now)
    for condition in found:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        condition["lastHeartbeatTime"] = stamp
        condition["lastTransitionTime"] = before.get("lastTransitionTime", stamp) if same else stamp
    return found


def _condition(
    type: str, holds: bool, reason: str, message: str, other_reason: str, other_message: str
) -> Object:
    return {
        "type": type,
        "status": "True" if holds else "False",
        "reason": reason if holds else other_reason,
        "message": message if holds else other_message,
    }


_REASONS: Mapping[tuple[str, str], str] = {
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
}


def turned(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The reasons of the Events for conditions that are other than before. A new node is no news
    that it is not ready yet."""
    before = {one["type"]: one.get("status") for one in old.get("conditions") or ()}
    before.setdefault("Ready", "False")
    return [
        _REASONS[one["type"], one["status"]]
        for one in new["conditions"]
        if before.get(one["type"]) != one["status"]
    ]


def rebooted(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The boot id, where the host has been started again since the status was `old`; else empty."""
    before = (old.get("nodeInfo") or {}).get("bootID")
    now = str(new["nodeInfo"]["bootID"])
    return now if before and before != now else ""


def patch(old: Mapping[str, Any], new: Object) -> Object:
    """What turns the status `old` into `new`: what is no longer counted is named too."""
    kept = old.get("allocatable") or {}
    gone = {name: None for name in kept if name not in new["allocatable"]}
    return {**new, "allocatable": {**new["allocatable"], **gone}} if gone else new


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the two statuses differ in more than the time of the heartbeat."""

    def essence(status: Mapping[str, Any]) -> dict[str, Any]:
        conditions = {
            c["type"]: (c.get("status"), c.get("reason"), c.get("message"))
            for c in status.get("conditions") or ()
            if c["type"] in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        }
        # A cloud provider may add addresses of other types.
        addresses = [
            a for a in status.get("addresses") or () if a.get("type") in ("InternalIP", "Hostname")
        ]
        keys = ("capacity", "allocatable", "daemonEndpoints", "nodeInfo")
        return {
            "conditions": conditions,
            "addresses": addresses,
            "images": list(status.get("images") or ()),
            **{key: status.get(key) for key in keys},
        }

    return essence(old) != essence(new)
