"""What the node and its pods use, in Prometheus' text format: the kubelet's `/metrics/resource` and
`/metrics/cadvisor`, and what it says of volumes. Names and labels are theirs. Pure.

Sources: Kubernetes documents, "Node metrics data"; cAdvisor, "Monitoring cAdvisor with Prometheus".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshkube.node.disk_usage import Taken
from meshkube.node.network_counters import Interface
from meshkube.node.runtime import Record, Stats
from meshkube.node.use import ContainerUse, FileSystem, PodUse, Usage, VolumeUse

_CPU, _MEMORY, _START = (
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_start_time_seconds",
)
Sample = tuple[dict[str, str], float]


def resource(usage: Usage) -> str:
    """Of the node, its pods and containers: what metrics-server reads."""
    node = usage.node
    named = [(_short(one.record), one) for one in usage.containers]
    pods = [({"namespace": pod.ref.namespace, "pod": pod.ref.name}, pod) for pod in usage.pods]
    return "".join(
        [
            _family(_CPU, "counter", [(n, _seconds(c.stats.cpu_nanoseconds)) for n, c in named]),
            _family(_MEMORY, "gauge", [(n, c.stats.memory) for n, c in named]),
            _family(_START, "gauge", [(n, _started(c.record)) for n, c in named]),
            _family("container_swap_usage_bytes", "gauge", [(n, c.stats.swap) for n, c in named]),
            _family(
                "node_cpu_usage_seconds_total", "counter",
                [({}, _seconds(node.used.cpu_nanoseconds))],
            ),
            _family("node_memory_working_set_bytes", "gauge", [({}, node.used.memory)]),
            _family("node_swap_usage_bytes", "gauge", [({}, node.used.swap)]),
            _family(
                "pod_cpu_usage_seconds_total", "counter",
                [(n, sum(_seconds(c.stats.cpu_nanoseconds) for c in p.containers))
                 for n, p in pods],
            ),
            _family(
                "pod_memory_working_set_bytes", "gauge",
                [(n, sum(c.stats.memory for c in p.containers)) for n, p in pods],
            ),
            _family("resource_scrape_error", "gauge", [({}, 0)]),
            _family("scrape_error", "gauge", [({}, 0)]),
        ]
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Of:
    """One family of cAdvisor's, about containers."""

    name: str
    type: str
    value: Callable[[Stats], float]


_CONTAINER = (
    _Of("container_cpu_user_seconds_total", "counter", lambda s: _seconds(s.cpu_user)),
    _Of("container_cpu_system_seconds_total", "counter", lambda s: _seconds(s.cpu_system)),
    _Of("container_cpu_cfs_periods_total", "counter", lambda s: s.throttled.periods),
    _Of("container_cpu_cfs_throttled_periods_total", "counter", lambda s: s.throttled.hit),
    _Of("container_cpu_cfs_throttled_seconds_total", "counter",
        lambda s: _seconds(s.throttled.nanoseconds)),
    _Of(_MEMORY, "gauge", lambda s: s.memory),
    _Of("container_memory_usage_bytes", "gauge", lambda s: s.memory_usage),
    _Of("container_memory_rss", "gauge", lambda s: s.rss),
    _Of("container_memory_cache", "gauge", lambda s: s.cache),
    _Of("container_memory_mapped_file", "gauge", lambda s: s.mapped),
    _Of("container_memory_swap", "gauge", lambda s: s.swap),
    _Of("container_spec_memory_limit_bytes", "gauge", lambda s: s.memory_limit),
    _Of("container_processes", "gauge", lambda s: s.processes),
    _Of("container_fs_reads_total", "counter", lambda s: s.disk.reads),
    _Of("container_fs_writes_total", "counter", lambda s: s.disk.writes),
    _Of("container_fs_reads_bytes_total", "counter", lambda s: s.disk.read_bytes),
    _Of("container_fs_writes_bytes_total", "counter", lambda s: s.disk.written_bytes),
)  # fmt: skip
_NETWORK: tuple[tuple[str, Callable[[Interface], int]], ...] = (
    ("container_network_receive_bytes_total", lambda i: i.rx_bytes),
    ("container_network_receive_packets_total", lambda i: i.rx_packets),
    ("container_network_receive_packets_dropped_total", lambda i: i.rx_dropped),
    ("container_network_receive_errors_total", lambda i: i.rx_errors),
    ("container_network_transmit_bytes_total", lambda i: i.tx_bytes),
    ("container_network_transmit_packets_total", lambda i: i.tx_packets),
    ("container_network_transmit_packets_dropped_total", lambda i: i.tx_dropped),
    ("container_network_transmit_errors_total", lambda i: i.tx_errors),
)
_VOLUME: tuple[tuple[str, Callable[[Taken, FileSystem], int]], ...] = (
    ("capacity_bytes", lambda size, files: files.capacity),
    ("available_bytes", lambda size, files: files.available),
    ("used_bytes", lambda size, files: size.size),
    ("inodes", lambda size, files: files.inodes),
    ("inodes_free", lambda size, files: files.inodes_free),
    ("inodes_used", lambda size, files: size.files),
)


def cadvisor(usage: Usage) -> str:
    """Of each container with the labels that cAdvisor gives them, and the machine's size."""
    named = [(_long(one.record), one) for one in usage.containers]
    pods = list(_pod_level(usage))
    cpu = [({**n, "cpu": "total"}, _seconds(c.stats.cpu_nanoseconds)) for n, c in named]
    cpu += [({**n, "cpu": "total"}, _seconds(_sum(p, "cpu_nanoseconds"))) for n, p in pods]
    parts = [_family(_CPU, "counter", cpu)]
    for of in _CONTAINER:
        samples = [(n, of.value(c.stats)) for n, c in named]
        if of.name == _MEMORY:
            samples += [(n, _sum(p, "memory")) for n, p in pods]
        parts.append(_family(of.name, of.type, samples))
    parts += [
        _family(_START, "gauge", [(n, _started(c.record)) for n, c in named]),
        _family("container_last_seen", "gauge", [(n, c.stats.time.timestamp()) for n, c in named]),
        *_files(usage, named),
        *_networks(usage),
        _family("machine_cpu_cores", "gauge", [({}, usage.node.cpus)]),
        _family("machine_memory_bytes", "gauge", [({}, usage.node.memory)]),
    ]
    return "".join(parts)


def _pod_level(usage: Usage) -> Iterator[tuple[dict[str, str], PodUse]]:
    """A pod as a whole, as cAdvisor tells of its group: no container, no image."""
    for pod in usage.pods:
        labels = {"container": "", "namespace": pod.ref.namespace, "pod": pod.ref.name}
        yield {**labels, "id": f"/kubepods/pod{pod.ref.uid}", "image": "", "name": ""}, pod


def _sum(pod: PodUse, field: str) -> float:
    return float(sum(getattr(one.stats, field) for one in pod.containers))


def _files(usage: Usage, named: list[tuple[dict[str, str], ContainerUse]]) -> Iterator[str]:
    sized = [({**n, "device": ""}, c.layer) for n, c in named]
    known = [(n, size) for n, size in sized if size is not None]
    yield _family("container_fs_usage_bytes", "gauge", [(n, size.size) for n, size in known])
    yield _family("container_fs_inodes_total", "gauge", [(n, size.files) for n, size in known])
    limit = usage.node.image_files.capacity
    yield _family("container_fs_limit_bytes", "gauge", [(n, limit) for n, _ in known])


def _networks(usage: Usage) -> Iterator[str]:
    """Of each pod: its sandbox holds the network."""
    found = [
        ({**_long(pod.sandbox), "interface": one.name}, one)
        for pod in usage.pods
        if pod.sandbox is not None
        for one in pod.interfaces
    ]
    for name, value in _NETWORK:
        yield _family(name, "counter", [(labels, value(one)) for labels, one in found])


def kubelet(usage: Usage, pods: int, states: Mapping[str, int]) -> str:
    """What the kubelet's `/metrics` says of pods and volumes; `pods` run, and `states` counts
    containers."""
    claimed = [each for pod in usage.pods for each in pod.volumes if each[0].claim]
    return "".join(
        [
            _family("kubelet_node_name", "gauge", [({"node": usage.node.name}, 1)]),
            _family("kubelet_running_pods", "gauge", [({}, pods)]),
            _family(
                "kubelet_running_containers",
                "gauge",
                [({"container_state": state}, count) for state, count in states.items()],
            ),
            *(
                _family(
                    f"kubelet_volume_stats_{name}",
                    "gauge",
                    [(_claim(volume), value(size, files)) for volume, size, files in claimed],
                )
                for name, value in _VOLUME
            ),
        ]
    )


def _claim(volume: VolumeUse) -> dict[str, str]:
    return {"namespace": volume.pod.namespace, "persistentvolumeclaim": volume.claim}


def _short(record: Record) -> dict[str, str]:
    return {
        "container": record.name,
        "namespace": record.pod.namespace,
        "pod": record.pod.name,
    }


def _long(record: Record) -> dict[str, str]:
    own = f"/kubepods/pod{record.pod.uid}/{record.id}"
    return {**_short(record), "id": own, "image": record.image, "name": record.id}


def _seconds(nanoseconds: float) -> float:
    return nanoseconds / 1e9


def _started(record: Record) -> float:
    return (record.started or record.created).timestamp()


def _family(name: str, type: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {name.replace('_', ' ')}", f"# TYPE {name} {type}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
