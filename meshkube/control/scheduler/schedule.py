"""The decision: which node a pod goes to, or in Kubernetes' words why to none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from meshkube.control.scheduler.filters import Refusal, refusal
from meshkube.control.scheduler.model import NodeInfo, PodInfo
from meshkube.control.scheduler.scores import best

ENOUGH = 100
"""Of this many nodes that can take a pod the best is taken; more are not looked for."""

NO_NODES = "no nodes available to schedule pods"
NO_VICTIMS = "No preemption victims found for incoming pod"
NO_HELP = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Decision:
    """The node's name, or empty with the reason. `looked_at` nodes were filtered."""

    node: str
    message: str = ""
    looked_at: int = 0


def schedule(pod: PodInfo, nodes: Sequence[NodeInfo], start: int = 0) -> Decision:
    """Decides for one pod. `start` says with which node to begin, so that with many nodes each
    comes up in turn."""
    if not nodes:
        return Decision("", NO_NODES)
    if pod.volumes.problem:
        return Decision("", _hopeless(pod.volumes.problem, len(nodes)))
    feasible: list[NodeInfo] = []
    refusals: list[Refusal] = []
    looked_at = 0
    for offset in range(len(nodes)):
        node = nodes[(start + offset) % len(nodes)]
        looked_at += 1
        objection = refusal(pod, node)
        if objection is None:
            feasible.append(node)
            if len(feasible) >= ENOUGH:
                break
        else:
            refusals.append(objection)
    if feasible:
        return Decision(best(pod, feasible).name, looked_at=looked_at)
    return Decision("", explain(pod, refusals), looked_at)


def _hopeless(problem: str, nodes: int) -> str:
    """What keeps the pod from every node alike."""
    head = f"0/{nodes} nodes are available: {problem}."
    return f"{head} preemption: 0/{nodes} nodes are available: {nodes} {NO_HELP}."


def explain(pod: PodInfo, refusals: Sequence[Refusal]) -> str:
    """`0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: ...`"""
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    head = f"0/{len(refusals)} nodes are available: {_counted(reasons)}."
    if pod.never_preempts:
        return f"{head} preemption: not eligible due to preemptionPolicy=Never."
    hopes = Counter(NO_HELP if refusal.final else NO_VICTIMS for refusal in refusals)
    return f"{head} preemption: 0/{len(refusals)} nodes are available: {_counted(hopes)}."


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
