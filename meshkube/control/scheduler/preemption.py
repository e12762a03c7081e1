"""Which pods would have to go so that a more important one fits. Pure.

Source: Kubernetes' page "Pod Priority and Preemption": of the nodes where ending pods of lower
priority helps, the one where that does the least harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass

from meshkube.api.selectors import LabelSelector
from meshkube.control.scheduler.filters import refusal
from meshkube.control.scheduler.model import NodeInfo, PodInfo
from meshkube.control.scheduler.neighbours import neighbours
from meshkube.control.scheduler.terms import NamespaceLabels

CANDIDATES = 100
"""Of this many nodes the best is taken; more are not looked at."""


@dataclass(slots=True)
class Budget:
    """A PodDisruptionBudget: how many of its pods may go now."""

    namespace: str
    selector: LabelSelector
    allowed: int


@dataclass(frozen=True, slots=True)
class Nomination:
    """The node, and the pods that end for it."""

    node: str
    victims: tuple[PodInfo, ...]


@dataclass(frozen=True, slots=True)
class _Option:
    node: NodeInfo
    victims: tuple[PodInfo, ...]
    violations: int

    @property
    def harm(self) -> tuple[object, ...]:
        """Less is better: broken budgets, the most important victim, all of them together, how
        many, and (the later the better) when the most important ones began."""
        priorities = [victim.priority for victim in self.victims]
        highest = max(priorities)
        began = min(v.started for v in self.victims if v.priority == highest)
        return (self.violations, highest, sum(priorities), len(priorities), _Later(began))


@dataclass(frozen=True, slots=True)
class _Later:
    moment: str

    def __lt__(self, other: _Later) -> bool:
        return self.moment > other.moment


def eligible(pod: PodInfo, nodes: Iterable[NodeInfo]) -> bool:
    """Not while pods that it had ended before are still on their way out."""
    return not pod.never_preempts and not any(
        other.terminating and other.priority < pod.priority
        for node in nodes
        if node.name == pod.nominated
        for other in node.pods.values()
    )


def preempt(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    hopeful: Iterable[NodeInfo],
    namespaces: NamespaceLabels,
    budgets: Sequence[Budget],
) -> Nomination | None:
    """`hopeful` are the nodes whose refusal was not final. None where nothing helps."""
    options = []
    for node in hopeful:
        option = _option(pod, node, nodes, namespaces, budgets)
        if option is not None:
            options.append(option)
            if len(options) >= CANDIDATES:
                break
    if not options:
        return None
    best = min(options, key=lambda option: option.harm)
    return Nomination(best.node.name, best.victims)


def _option(
    pod: PodInfo,
    node: NodeInfo,
    nodes: Sequence[NodeInfo],
    namespaces: NamespaceLabels,
    budgets: Sequence[Budget],
) -> _Option | None:
    lower = [other for other in node.pods.values() if other.priority < pod.priority]
    if not lower:
        return None
    trial = without(node, lower)
    among = [trial if other is node else other for other in nodes]

    def fits() -> bool:
        if refusal(pod, trial) is not None:
            return False
        around = neighbours(pod, among, namespaces)
        return around is None or around.refusal(trial) is None

    if not fits():
        return None
    victims, violations = [], 0
    for other, violates in _in_order(lower, budgets):
        # Each stays if it can: those whose budget would break first, then the important ones.
        trial.add(other)
        if not fits():
            trial.remove(other.uid)
            victims.append(other)
            violations += violates
    return _Option(node, tuple(victims), violations) if victims else None


def _in_order(
    lower: Iterable[PodInfo], budgets: Sequence[Budget]
) -> Iterable[tuple[PodInfo, bool]]:
    left = [budget.allowed for budget in budgets]
    marked = []
    ranked = sorted(lower, key=lambda other: (-other.priority, other.started))
    for other in ranked:
        violates = False
        for index, budget in enumerate(budgets):
            if budget.namespace == other.namespace and budget.selector.matches(other.labels):
                left[index] -= 1
                violates = violates or left[index] < 0
        marked.append((other, violates))
    return sorted(marked, key=lambda pair: not pair[1])


def without(node: NodeInfo, pods: Iterable[PodInfo]) -> NodeInfo:
    """A copy of the node on which these are not."""
    trial = copy(node)
    trial.pods, trial.requested = dict(node.pods), dict(node.requested)
    trial.ports, trial.owners = node.ports.copy(), node.owners.copy()
    trial.groups, trial.voices = dict(node.groups), dict(node.voices)
    trial.nominees = node.nominees
    for pod in pods:
        trial.remove(pod.uid)
    return trial
