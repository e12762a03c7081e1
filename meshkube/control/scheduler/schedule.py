"""The decision: which node a pod goes to, or in Kubernetes' words why to none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meshkube.control.scheduler.filters import Refusal, refusals
from meshkube.control.scheduler.model import NodeInfo, PodInfo
from meshkube.control.scheduler.neighbours import neighbours
from meshkube.control.scheduler.preemption import Budget, Nomination, eligible, preempt
from meshkube.control.scheduler.scores import best
from meshkube.control.scheduler.terms import Labels

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
    nomination: Nomination | None = None
    """Where ending other pods would make room."""


def schedule(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    start: int = 0,
    *,
    namespaces: Mapping[str, Labels] = {},
    budgets: Callable[[], Sequence[Budget]] = tuple,
) -> Decision:
    """Decides for one pod. `start` says with which node to begin, so that with many nodes each
    comes up in turn. `namespaces` are the labels of each; `budgets` is asked where pods may have to
    be ended."""
    if not nodes:
        return Decision("", NO_NODES)
    if pod.volumes.problem:
        return Decision("", _hopeless(pod.volumes.problem, len(nodes)))
    around = neighbours(pod, nodes, namespaces)
    objection_of = refusals(pod)
    feasible: list[NodeInfo] = []
    refused: list[Refusal] = []
    hopeful: list[NodeInfo] = []
    looked_at = 0
    for offset in range(len(nodes)):
        node = nodes[(start + offset) % len(nodes)]
        looked_at += 1
        objection = objection_of(node)
        if objection is None and around is not None:
            objection = around.refusal(node)
        if objection is None:
            feasible.append(node)
            if len(feasible) >= ENOUGH:
                break
        else:
            refused.append(objection)
            if not objection.final:
                hopeful.append(node)
    if feasible:
        more = around.scores(feasible) if around is not None and len(feasible) > 1 else None
        return Decision(best(pod, feasible, more).name, looked_at=looked_at)
    if hopeful and eligible(pod, nodes):
        nomination = preempt(pod, nodes, hopeful, namespaces, budgets())
        if nomination is not None:
            return Decision("", _head(refused), looked_at, nomination)
    return Decision("", explain(pod, refused), looked_at)


def _hopeless(problem: str, nodes: int) -> str:
    """What keeps the pod from every node alike."""
    head = f"0/{nodes} nodes are available: {problem}."
    return f"{head} preemption: 0/{nodes} nodes are available: {nodes} {NO_HELP}."


def explain(pod: PodInfo, refusals: Sequence[Refusal]) -> str:
    """`0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: ...`"""
    head = _head(refusals)
    if pod.never_preempts:
        return f"{head} preemption: not eligible due to preemptionPolicy=Never."
    hopes = Counter(NO_HELP if refusal.final else NO_VICTIMS for refusal in refusals)
    return f"{head} preemption: 0/{len(refusals)} nodes are available: {_counted(hopes)}."


def _head(refusals: Sequence[Refusal]) -> str:
    reasons = Counter(reason for refusal in refusals for reason in refusal.reasons)
    return f"0/{len(refusals)} nodes are available: {_counted(reasons)}."


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
