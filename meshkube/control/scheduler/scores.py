"""Which of the nodes that can take a pod is the best: each score is 0 to 100, weighted as in
Kubernetes' default profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from meshkube.control.scheduler.filters import term_matches, tolerates
from meshkube.control.scheduler.model import NodeInfo, PodInfo

Scores = list[float]
EQUAL: Scores = []
"""No node is better than another one."""
MB = 1024 * 1024


def _shares(pod: PodInfo, node: NodeInfo) -> tuple[float, float]:
    """The parts of cpu and memory that would be taken with the pod there."""
    cpu, memory = node.allocatable.get("cpu", 0), node.allocatable.get("memory", 0)
    return (
        min((node.scored_cpu + pod.scored[0]) / cpu, 1.0) if cpu else 1.0,
        min((node.scored_memory + pod.scored[1]) / memory, 1.0) if memory else 1.0,
    )


def resources(pod: PodInfo, nodes: Sequence[NodeInfo]) -> Scores:
    """Least allocated and evenly allocated, together (0 to 200)."""
    scores = []
    for node in nodes:
        cpu, memory = _shares(pod, node)
        scores.append(100 * (1 - (cpu + memory) / 2) + 100 * (1 - abs(cpu - memory) / 2))
    return scores


def spread(pod: PodInfo, nodes: Sequence[NodeInfo]) -> Scores:
    """Away from the pods of the same owner."""
    if not pod.owner:
        return EQUAL
    return _least([float(node.owners.get(pod.owner, 0)) for node in nodes])


def preferred_affinity(pod: PodInfo, nodes: Sequence[NodeInfo]) -> Scores:
    """The weights of the preferred terms that match."""
    if not pod.preferred:
        return EQUAL
    return _most(
        [
            float(
                sum(
                    int(term.get("weight") or 0)
                    for term in pod.preferred
                    if term_matches(term.get("preference") or {}, node)
                )
            )
            for node in nodes
        ]
    )


def soft_taints(pod: PodInfo, nodes: Sequence[NodeInfo]) -> Scores:
    """Away from PreferNoSchedule taints that the pod does not tolerate."""
    if not any(node.soft_taints for node in nodes):
        return EQUAL
    return _least(
        [float(sum(not tolerates(pod.tolerations, t) for t in n.soft_taints)) for n in nodes]
    )


def images(pod: PodInfo, nodes: Sequence[NodeInfo]) -> Scores:
    """Towards nodes that hold its images already: from 23 MB to 1000 MB a container."""
    names = [_with_tag(image) for image in pod.images]
    if not names or not any(node.images for node in nodes):
        return EQUAL
    most = 1000 * MB * len(names)
    held = (sum(node.images.get(name, 0) for name in names) for node in nodes)
    return [max(0.0, min(100.0, 100 * (size - 23 * MB) / (most - 23 * MB))) for size in held]


def _with_tag(image: str) -> str:
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _least(counts: Scores) -> Scores:
    """100 for none, 0 for the most."""
    most = max(counts, default=0.0)
    return [100 * (most - count) / most for count in counts] if most else [100.0] * len(counts)


def _most(counts: Scores) -> Scores:
    most = max(counts, default=0.0)
    return [100 * count / most for count in counts] if most else [0.0] * len(counts)


Score = Callable[[PodInfo, Sequence[NodeInfo]], Scores]
WEIGHTED: tuple[tuple[Score, int], ...] = (
    (resources, 1),
    (spread, 2),
    (preferred_affinity, 2),
    (soft_taints, 3),
    (images, 1),
)


def best(pod: PodInfo, nodes: Sequence[NodeInfo], more: Scores | None = None) -> NodeInfo:
    """The node with the highest sum (`more`: what neighbours add); of equal ones that with the
    fewest pods, then the first."""
    if len(nodes) == 1:
        return nodes[0]
    weighted = ((score(pod, nodes), weight) for score, weight in WEIGHTED)
    columns = [[weight * s for s in scores] for scores, weight in weighted if scores is not EQUAL]
    if more is not None:
        columns.append(more)
    sums = [math.fsum(parts) for parts in zip(*columns, strict=True)]
    ranks = [(round(total, 6), -len(node.pods)) for total, node in zip(sums, nodes, strict=True)]
    return nodes[ranks.index(max(ranks))]
