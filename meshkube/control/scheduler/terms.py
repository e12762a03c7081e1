"""What a pod says about other pods: affinity, anti-affinity, spread over topology domains. Pure.

Source: Kubernetes' pages "Assigning Pods to Nodes" and "Pod Topology Spread Constraints".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from meshkube.api.selectors import EVERYTHING, NOTHING, LabelSelector, from_label_selector

Labels = Mapping[str, str]
NamespaceLabels = Mapping[str, Labels]


@dataclass(frozen=True, slots=True)
class PodTerm:
    """Pods in some namespaces with some labels, and the domain to share with them or not."""

    selector: LabelSelector
    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    topology_key: str

    def covers(self, namespace: str, labels: Labels, namespaces: NamespaceLabels) -> bool:
        """Whether a pod is one of those meant."""
        meant = namespace in self.namespaces or (
            self.namespace_selector is not NOTHING
            and self.namespace_selector.matches(namespaces.get(namespace, {}))
        )
        return meant and self.selector.matches(labels)


@dataclass(frozen=True, slots=True)
class Constraint:
    """One of `topologySpreadConstraints`."""

    max_skew: int
    topology_key: str
    required: bool
    selector: LabelSelector
    min_domains: int
    honours_affinity: bool
    honours_taints: bool


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Terms:
    """All that one pod says. Pods that say the same share one (`terms`), known by its identity."""

    affinity: tuple[PodTerm, ...] = ()
    anti: tuple[PodTerm, ...] = ()
    preferred: tuple[tuple[int, PodTerm], ...] = ()
    """With weights: below zero for anti-affinity."""
    spread: tuple[Constraint, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.affinity or self.anti or self.preferred or self.spread)


SILENT = Terms()
_SAID: WeakValueDictionary[tuple[object, ...], Terms] = WeakValueDictionary()


def terms(spec: Mapping[str, Any], namespace: str, labels: Labels) -> Terms:
    """Reads a pod's spec."""
    affinity = spec.get("affinity") or {}
    near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    constraints = spec.get("topologySpreadConstraints") or ()
    if not near and not far and not constraints:
        return SILENT
    said = (
        tuple(_required(near, namespace, labels)),
        tuple(_required(far, namespace, labels)),
        (*_preferred(near, namespace, labels, 1), *_preferred(far, namespace, labels, -1)),
        tuple(_constraint(one, labels) for one in constraints),
    )
    found = _SAID.get(said)
    if found is None:
        found = _SAID[said] = Terms(*said)
    return found


class Group:
    """Pods that look alike to selectors: known by its identity, as there is one for all of them
    (`group`)."""

    __slots__ = ("__weakref__", "labels", "namespace", "terminating")

    def __init__(self, namespace: str, labels: Labels, terminating: bool) -> None:
        self.namespace = namespace
        self.labels = labels
        self.terminating = terminating


_GROUPS: WeakValueDictionary[tuple[object, ...], Group] = WeakValueDictionary()


def group(namespace: str, labels: Labels, terminating: bool) -> Group:
    """The group of a pod."""
    key = (namespace, frozenset(labels.items()), terminating)
    found = _GROUPS.get(key)
    if found is None:
        found = _GROUPS[key] = Group(namespace, labels, terminating)
    return found


def _required(rules: Mapping[str, Any], namespace: str, labels: Labels) -> Iterator[PodTerm]:
    for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        yield _term(term, namespace, labels)


def _preferred(
    rules: Mapping[str, Any], namespace: str, labels: Labels, sign: int
) -> Iterator[tuple[int, PodTerm]]:
    for one in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        term = _term(one.get("podAffinityTerm") or {}, namespace, labels)
        yield sign * int(one.get("weight") or 0), term


def _term(term: Mapping[str, Any], namespace: str, labels: Labels) -> PodTerm:
    listed = frozenset(term.get("namespaces") or ())
    chosen = term.get("namespaceSelector")
    if chosen is None:
        return PodTerm(
            _selector(term, labels), listed or frozenset({namespace}), NOTHING, _key(term)
        )
    spaces = from_label_selector(chosen) if chosen else EVERYTHING
    return PodTerm(_selector(term, labels), listed, spaces, _key(term))


def _key(term: Mapping[str, Any]) -> str:
    return str(term.get("topologyKey") or "")


def _selector(term: Mapping[str, Any], labels: Labels) -> LabelSelector:
    """The label selector with what `matchLabelKeys` and `mismatchLabelKeys` add; one that is absent
    selects nothing."""
    given = term.get("labelSelector")
    if given is None:
        return NOTHING
    expressions = list(given.get("matchExpressions") or ())
    expressions += _same(term.get("matchLabelKeys") or (), "In", labels)
    expressions += _same(term.get("mismatchLabelKeys") or (), "NotIn", labels)
    whole = {"matchLabels": given.get("matchLabels") or {}, "matchExpressions": expressions}
    return from_label_selector(whole)


def _same(keys: Iterable[str], operator: str, labels: Labels) -> Iterator[dict[str, Any]]:
    for key in keys:
        if key in labels:
            yield {"key": key, "operator": operator, "values": [labels[key]]}


def _constraint(one: Mapping[str, Any], labels: Labels) -> Constraint:
    return Constraint(
        max_skew=int(one.get("maxSkew") or 1),
        topology_key=_key(one),
        required=one.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        selector=_selector(one, labels),
        min_domains=int(one.get("minDomains") or 1),
        honours_affinity=one.get("nodeAffinityPolicy", "Honor") == "Honor",
        honours_taints=one.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )
