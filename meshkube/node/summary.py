"""The document of the kubelet's `/stats/summary`. Pure.

Source: Kubernetes, `k8s.io/kubelet/pkg/apis/stats/v1alpha1`.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.disk_usage import Taken
from meshkube.node.network_counters import Interface
from meshkube.node.use import ContainerUse, FileSystem, NodeUse, PodUse, Usage, VolumeUse

POD_INTERFACE = "eth0"


def summary(usage: Usage, *, only_cpu_and_memory: bool = False) -> Object:
    """All of it, or what the resource metrics are made from."""
    whole = not only_cpu_and_memory
    return {
        "node": _node(usage.node, whole),
        "pods": [_pod(pod, usage.node, whole) for pod in usage.pods],
    }


def _node(node: NodeUse, whole: bool) -> Object:
    found: Object = {
        "nodeName": node.name,
        "systemContainers": [],
        "startTime": meta.timestamp(node.used.booted),
        "cpu": _cpu(node.time, node.used.cpu_nanoseconds, node.nanocores),
        "memory": {
            "time": node.time,
            "availableBytes": max(0, node.memory - node.used.memory),
            "usageBytes": node.used.memory_usage,
            "workingSetBytes": node.used.memory,
            "rssBytes": node.used.rss,
            "pageFaults": node.used.faults,
            "majorPageFaults": node.used.major_faults,
        },
    }
    if whole:
        disk = {"fs": _file_system(node.time, node.files)}
        images = _file_system(node.time, node.image_files)
        found |= disk | {
            "runtime": {"imageFs": images, "containerFs": images},
            "rlimit": {
                "time": node.time, "maxpid": node.most_processes, "curproc": node.processes
            },
            "swap": {
                "time": node.time,
                "swapAvailableBytes": node.used.swap_free,
                "swapUsageBytes": node.used.swap,
            },
        }  # fmt: skip
        if node.interfaces:
            found["network"] = _network(node.time, node.interfaces, node.uplink)
    return found


def _pod(pod: PodUse, node: NodeUse, whole: bool) -> Object:
    containers = pod.containers
    rates = [one.nanocores for one in containers if one.nanocores is not None]
    found: Object = {
        "podRef": pod.ref._asdict(),
        "startTime": meta.timestamp(pod.started),
        "containers": [_container(one, node, whole) for one in containers],
        "cpu": _cpu(
            node.time,
            sum(one.stats.cpu_nanoseconds for one in containers),
            sum(rates) if rates else None,
        ),
        "memory": {
            "time": node.time,
            "usageBytes": sum(one.stats.memory_usage for one in containers),
            "workingSetBytes": sum(one.stats.memory for one in containers),
            "rssBytes": sum(one.stats.rss for one in containers),
            "pageFaults": sum(one.stats.faults for one in containers),
            "majorPageFaults": sum(one.stats.major_faults for one in containers),
        },
    }
    if whole:
        if pod.interfaces:
            found["network"] = _network(node.time, pod.interfaces, POD_INTERFACE)
        if pod.volumes:
            found["volume"] = [_volume(node.time, *each) for each in pod.volumes]
        found["ephemeral-storage"] = _ephemeral(pod, node)
        found["process_stats"] = {"process_count": sum(c.stats.processes for c in containers)}
    return found


def _container(one: ContainerUse, node: NodeUse, whole: bool) -> Object:
    time, stats = meta.micro_timestamp(one.stats.time), one.stats
    found: Object = {
        "name": one.record.name,
        "startTime": meta.timestamp(one.record.started or one.record.created),
        "cpu": _cpu(time, stats.cpu_nanoseconds, one.nanocores),
        "memory": {
            "time": time,
            "usageBytes": stats.memory_usage,
            "workingSetBytes": stats.memory,
            "rssBytes": stats.rss,
            "pageFaults": stats.faults,
            "majorPageFaults": stats.major_faults,
        },
    }
    if stats.memory_limit:
        found["memory"]["availableBytes"] = max(0, stats.memory_limit - stats.memory)
    if whole:
        found["swap"] = {"time": time, "swapUsageBytes": stats.swap}
        if one.layer is not None:
            found["rootfs"] = _file_system(node.time, node.image_files, one.layer)
        if one.logs is not None:
            found["logs"] = _file_system(node.time, node.image_files, one.logs)
    return found


def _cpu(time: str, total: int, rate: int | None) -> Object:
    found: Object = {"time": time, "usageCoreNanoSeconds": total}
    return found if rate is None else {**found, "usageNanoCores": rate}


def _file_system(time: str, files: FileSystem, used: Taken | None = None) -> Object:
    """With `used`, what somebody uses of it."""
    whole = Taken(files.capacity - files.available, files.inodes - files.inodes_free)
    own = used or whole
    return {
        "time": time,
        "availableBytes": files.available,
        "capacityBytes": files.capacity,
        "usedBytes": own.size,
        "inodesFree": files.inodes_free,
        "inodes": files.inodes,
        "inodesUsed": own.files,
    }


def _volume(time: str, volume: VolumeUse, size: Taken, files: FileSystem) -> Object:
    found = {**_file_system(time, files, size), "name": volume.name}
    if volume.claim:
        found["pvcRef"] = {"name": volume.claim, "namespace": volume.pod.namespace}
    return found


def _ephemeral(pod: PodUse, node: NodeUse) -> Object:
    parts = [size for one in pod.containers for size in (one.layer, one.logs) if size is not None]
    parts += [size for volume, size, _ in pod.volumes if not volume.claim]
    total = Taken(sum(part.size for part in parts), sum(part.files for part in parts))
    return _file_system(node.time, node.files, total)


def _network(time: str, interfaces: Iterable[Interface], main: str) -> Object:
    told = [_interface(one) for one in interfaces]
    first = next((one for one in told if one["name"] == main), told[0])
    return {"time": time, **first, "interfaces": told}


def _interface(one: Interface) -> Object:
    return {
        "name": one.name,
        "rxBytes": one.rx_bytes,
        "rxErrors": one.rx_errors,
        "txBytes": one.tx_bytes,
        "txErrors": one.tx_errors,
    }
