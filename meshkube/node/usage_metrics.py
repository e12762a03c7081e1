"""What the node and its pods use, in Prometheus' text format: the kubelet's `/metrics/resource` and
`/metrics/cadvisor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from meshkube.node.runtime import Record
from meshkube.node.summary import Usage

_CPU, _MEMORY, _START = (
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_start_time_seconds",
)
Sample = tuple[dict[str, str], float]


def resource(usage: Usage) -> str:
    """Of the node, its pods and containers: what metrics-server reads."""
    pods: dict[tuple[str, str], tuple[float, float]] = {}
    for record, stats in usage.containers:
        key = (record.pod.namespace, record.pod.name)
        cpu, memory = pods.get(key, (0.0, 0.0))
        pods[key] = (cpu + stats.cpu_nanoseconds / 1e9, memory + stats.memory)
    labelled = [({"namespace": key[0], "pod": key[1]}, use) for key, use in pods.items()]
    node = usage.node
    return "".join(
        [
            _family("node_cpu_usage_seconds_total", "counter", [({}, node.cpu_nanoseconds / 1e9)]),
            _family("node_memory_working_set_bytes", "gauge", [({}, node.memory)]),
            *_of_containers(usage, _short),
            _family("pod_cpu_usage_seconds_total", "counter", [(n, u[0]) for n, u in labelled]),
            _family("pod_memory_working_set_bytes", "gauge", [(n, u[1]) for n, u in labelled]),
            _family("resource_scrape_error", "gauge", [({}, 0)]),
        ]
    )


def cadvisor(usage: Usage, cpus: int, memory: int) -> str:
    """Of each container with the labels that cAdvisor gives them, and the machine's size."""
    return "".join(
        [
            *_of_containers(usage, _long),
            _family("machine_cpu_cores", "gauge", [({}, cpus)]),
            _family("machine_memory_bytes", "gauge", [({}, memory)]),
        ]
    )


def _short(record: Record) -> dict[str, str]:
    return {
        "container": record.name,
        "namespace": record.pod.namespace,
        "pod": record.pod.name,
    }


def _long(record: Record) -> dict[str, str]:
    own = f"/kubepods/pod{record.pod.uid}/{record.id}"
    return {**_short(record), "id": own, "image": record.image, "name": record.id}


def _of_containers(usage: Usage, labels: Callable[[Record], dict[str, str]]) -> Iterator[str]:
    named = [(labels(record), record, stats) for record, stats in usage.containers]
    yield _family(_CPU, "counter", [(n, stats.cpu_nanoseconds / 1e9) for n, _, stats in named])
    yield _family(_MEMORY, "gauge", [(n, stats.memory) for n, _, stats in named])
    yield _family(_START, "gauge", [(n, _started(record)) for n, record, _ in named])


def _started(record: Record) -> float:
    return (record.started or record.created).timestamp()


def _family(name: str, type: str, samples: Iterable[Sample]) -> str:
    lines = [f"# TYPE {name} {type}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
