"""Where a pod may go, and where it is best, because of the pods that are there. Pure.

Counted once for each decision, over all nodes; then each node is one look-up for each term.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from meshkube.control.scheduler.filters import Refusal, affinity, taints
from meshkube.control.scheduler.model import NodeInfo, PodInfo
from meshkube.control.scheduler.terms import Constraint, Group, NamespaceLabels, PodTerm, Terms

K = TypeVar("K")
V = TypeVar("V")
Domain = tuple[str, str]
"""A topology key and a value of it."""
Weight = tuple[str, int]
"""How much a domain of this key is liked."""

_SPREAD = Refusal(("node(s) didn't match pod topology spread constraints",), final=False)
_NO_LABEL = Refusal(
    ("node(s) didn't match pod topology spread constraints (missing required label)",)
)
_NEAR = Refusal(("node(s) didn't match pod affinity rules",))
_FAR = Refusal(("node(s) didn't match pod anti-affinity rules",), final=False)
_OTHERS = Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",), final=False)
_HARD_WEIGHT = 1
"""What another pod's required affinity towards this one counts as a preference."""


class _Spread(NamedTuple):
    """One constraint with what is there: matching pods of each domain."""

    constraint: Constraint
    counts: Mapping[str, int]
    least: int
    """In any domain; 0 where there are fewer domains than there should be."""
    own: int
    """1 where the pod itself is among those that it counts."""


class _Answers(dict[K, V]):
    """What a question has for an answer, asked once of each."""

    def __init__(self, ask: Callable[[K], V]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, asked: K) -> V:
        answer = self[asked] = self._ask(asked)
        return answer


class Neighbours:
    """What the pods on all nodes mean for one that is to be placed."""

    def __init__(
        self, pod: PodInfo, nodes: Sequence[NodeInfo], namespaces: NamespaceLabels
    ) -> None:
        self._pod = pod
        self._namespaces = namespaces
        self._forbidden = self._kept_away(nodes)
        terms = pod.terms
        self._near = [self._domains(nodes, term, terms.affinity) for term in terms.affinity]
        self._far = [self._domains(nodes, term, (term,)) for term in terms.anti]
        self._alone = bool(terms.affinity) and not any(self._near) and self._is_its_own()
        self._spread = [self._counted(one, nodes) for one in terms.spread]
        self._nodes = nodes

    def refusal(self, node: NodeInfo) -> Refusal | None:
        """None where the neighbours leave the node open."""
        return self._uneven(node) or self._unfriendly(node)

    # Spread

    def _counted(self, constraint: Constraint, nodes: Sequence[NodeInfo]) -> _Spread:
        counts: dict[str, int] = {}
        matching = _Answers[Group, bool](
            lambda group: (
                group.namespace == self._pod.namespace
                and not group.terminating
                and constraint.selector.matches(group.labels)
            )
        )
        particular = self._is_particular(constraint)
        for node in nodes:
            value = node.labels.get(constraint.topology_key)
            if value is None or (particular and not self._eligible(constraint, node)):
                continue
            found = 0
            for group, count in node.groups.items():
                if matching[group]:
                    found += count
            counts[value] = counts.get(value, 0) + found
        enough = len(counts) >= constraint.min_domains
        least = min(counts.values(), default=0) if enough else 0
        own = int(constraint.selector.matches(self._pod.labels))
        return _Spread(constraint, counts, least, own)

    def _is_particular(self, constraint: Constraint) -> bool:
        """Whether a node with the constraint's label may still be none that counts."""
        pod = self._pod
        return (
            constraint.honours_taints
            or (constraint.honours_affinity and bool(pod.node_selector or pod.required))
            or any(
                one.required and one.topology_key != constraint.topology_key
                for one in pod.terms.spread
            )
        )

    def _eligible(self, constraint: Constraint, node: NodeInfo) -> bool:
        """Whether the node's domain is one that the pod could go to."""
        keys = (one.topology_key for one in self._pod.terms.spread if one.required)
        if any(key not in node.labels for key in keys):
            return False
        if constraint.honours_affinity and affinity(self._pod, node) is not None:
            return False
        return not (constraint.honours_taints and taints(self._pod, node) is not None)

    def _uneven(self, node: NodeInfo) -> Refusal | None:
        for constraint, counts, least, own in self._spread:
            if not constraint.required:
                continue
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return _NO_LABEL
            if counts.get(value, 0) + own - least > constraint.max_skew:
                return _SPREAD
        return None

    # Affinity

    def _kept_away(self, nodes: Iterable[NodeInfo]) -> set[Domain]:
        """Domains that pods which are there want for themselves."""
        group, found = self._pod.group, set()
        keys = _Answers[Terms, list[str]](
            lambda said: [term.topology_key for term in said.anti if self._covers(term, group)]
        )
        for node in nodes:
            for said in node.voices:
                for key in keys[said]:
                    if key in node.labels:
                        found.add((key, node.labels[key]))
        return found

    def _covers(self, term: PodTerm, group: Group) -> bool:
        return term.covers(group.namespace, group.labels, self._namespaces)

    def _domains(
        self, nodes: Iterable[NodeInfo], term: PodTerm, all_of: Sequence[PodTerm]
    ) -> set[Domain]:
        """The domains of the term's key with a pod that all of `all_of` cover."""
        key, values = term.topology_key, set[str]()
        meant = _Answers[Group, bool](lambda group: all(self._covers(one, group) for one in all_of))
        for node in nodes:
            value = node.labels.get(key)
            if value is None or value in values:
                continue
            for group in node.groups:
                if meant[group]:
                    values.add(value)
                    break
        return {(key, value) for value in values}

    def _is_its_own(self) -> bool:
        """The first of a group that wants to be together has nobody to go to yet."""
        return all(self._covers(term, self._pod.group) for term in self._pod.terms.affinity)

    def _unfriendly(self, node: NodeInfo) -> Refusal | None:
        terms = self._pod.terms
        for term, domains in zip(terms.affinity, self._near, strict=True):
            value = node.labels.get(term.topology_key)
            if value is None:
                return _NEAR
            if not self._alone and (term.topology_key, value) not in domains:
                return _NEAR
        for term, domains in zip(terms.anti, self._far, strict=True):
            value = node.labels.get(term.topology_key)
            if value is not None and (term.topology_key, value) in domains:
                return _FAR
        if self._forbidden and not self._forbidden.isdisjoint(node.labels.items()):
            return _OTHERS
        return None

    # Preferences

    def scores(self, nodes: Sequence[NodeInfo]) -> list[float]:
        """0 to 400 for each node: friends and spread, each with Kubernetes' weight of two."""
        friends = _stretched(self._friendship(nodes))
        even = self._evenness(nodes)
        return [2 * one + 2 * other for one, other in zip(friends, even, strict=True)]

    def _friendship(self, nodes: Sequence[NodeInfo]) -> list[float]:
        weights: Counter[Domain] = Counter()
        mine = _Answers[Group, list[Weight]](self._liked)
        theirs = _Answers[Terms, list[Weight]](self._likes)
        choosy = bool(self._pod.terms.preferred)
        for node in self._nodes:
            for said, count in node.voices.items():
                _weigh(weights, node, theirs[said], count)
            if choosy:
                for group, count in node.groups.items():
                    _weigh(weights, node, mine[group], count)
        if not weights:
            return [0.0] * len(nodes)
        keys = {key for key, _ in weights}
        return [
            float(sum(weights.get((key, node.labels[key]), 0) for key in keys & node.labels.keys()))
            for node in nodes
        ]

    def _liked(self, group: Group) -> list[Weight]:
        """What this pod thinks of others."""
        return [
            (term.topology_key, weight)
            for weight, term in self._pod.terms.preferred
            if self._covers(term, group)
        ]

    def _likes(self, said: Terms) -> list[Weight]:
        """What others who say this think of this pod."""
        all_said = [*said.preferred, *((_HARD_WEIGHT, term) for term in said.affinity)]
        return [
            (term.topology_key, weight)
            for weight, term in all_said
            if self._covers(term, self._pod.group)
        ]

    def _evenness(self, nodes: Sequence[NodeInfo]) -> list[float]:
        soft = [found for found in self._spread if not found.constraint.required]
        if not soft:
            return [0.0] * len(nodes)
        costs = []
        # Many small domains may differ less than a few large ones.
        weights = [math.log(len(found.counts) + 2) for found in soft]
        for node in nodes:
            cost = 0.0
            for (constraint, counts, _, _), weight in zip(soft, weights, strict=True):
                value = node.labels.get(constraint.topology_key)
                if value is not None:
                    cost += counts.get(value, 0) * weight + constraint.max_skew - 1
                else:
                    cost += 1 + sum(counts.values())
            costs.append(-cost)
        return _stretched(costs)


def _weigh(weights: Counter[Domain], node: NodeInfo, thoughts: list[Weight], count: int) -> None:
    for key, weight in thoughts:
        value = node.labels.get(key)
        if value is not None:
            weights[key, value] += weight * count


def _stretched(values: list[float]) -> list[float]:
    """From 0 for the least to 100 for the most; all 0 where they are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low == high:
        return [0.0] * len(values)
    return [100 * (value - low) / (high - low) for value in values]


def neighbours(
    pod: PodInfo, nodes: Sequence[NodeInfo], namespaces: NamespaceLabels
) -> Neighbours | None:
    """None where no pod says anything about others: the usual case, and it costs nothing."""
    if not pod.terms and not any(node.voices for node in nodes):
        return None
    return Neighbours(pod, nodes, namespaces)
