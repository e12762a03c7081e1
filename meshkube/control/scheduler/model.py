"""Pods and nodes as the scheduler counts them: projected once, when they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from meshkube.api import meta
from meshkube.api.allocation import held
from meshkube.api.placement import Port, Resources, host_ports, requests, resources
from meshkube.api.types import Object
from meshkube.control.scheduler.terms import SILENT, Group, Terms, group, terms
from meshkube.control.scheduler.volumes import NONE, PodVolumes
from meshkube.control.volumes import DIRECTORY

T = TypeVar("T")

# What a container without requests counts as when nodes are compared, as in Kubernetes.
SCORED_CPU = 100
SCORED_MEMORY = 200 * 1024 * 1024


@dataclass(slots=True)
class PodInfo:
    """A pod, as far as placing it goes."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    owner: str
    requests: Resources
    scored: tuple[int, int]
    """cpu and memory for the comparison of nodes."""
    ports: tuple[Port, ...]
    node: str
    node_selector: Mapping[str, str]
    required: Mapping[str, Any] | None
    """`requiredDuringSchedulingIgnoredDuringExecution` of its node affinity."""
    preferred: tuple[Mapping[str, Any], ...]
    tolerations: tuple[Mapping[str, Any], ...]
    images: tuple[str, ...]
    never_preempts: bool = False
    priority: int = 0
    terms: Terms = SILENT
    terminating: bool = False
    started: str = ""
    nominated: str = ""
    """The node on which others were ended for it."""
    volumes: PodVolumes = NONE
    """Looked up anew for each decision."""
    group: Group = field(init=False)
    """With the pods that no selector can tell from it."""

    def __post_init__(self) -> None:
        self.group = group(self.namespace, self.labels, self.terminating)

    @classmethod
    def of(cls, pod: Object) -> PodInfo:
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        counted = held(pod)
        asked = requests(counted)
        scored = requests(counted, {"cpu": SCORED_CPU, "memory": SCORED_MEMORY})
        owner = meta.controller_of(pod)
        return cls(
            uid=meta.uid(pod) or meta.key(pod),
            namespace=meta.namespace(pod),
            name=meta.name(pod),
            labels=meta.labels(pod),
            owner=owner["uid"] if owner else "",
            requests=asked,
            scored=(scored.get("cpu", 0), scored.get("memory", 0)),
            ports=host_ports(spec),
            node=spec.get("nodeName") or "",
            node_selector=spec.get("nodeSelector") or {},
            required=affinity.get("requiredDuringSchedulingIgnoredDuringExecution"),
            preferred=tuple(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()),
            tolerations=tuple(spec.get("tolerations") or ()),
            images=tuple(c["image"] for c in spec.get("containers") or () if c.get("image")),
            never_preempts=spec.get("preemptionPolicy") == "Never",
            priority=int(spec.get("priority") or 0),
            terms=terms(spec, meta.namespace(pod), meta.labels(pod)),
            terminating=meta.deleting(pod),
            started=str(status.get("startTime") or ""),
            nominated=str(status.get("nominatedNodeName") or ""),
        )


def counts(pod: Object) -> tuple[object, ...]:
    """All of a pod that a `PodInfo` is made of: where that is as before, so is the other."""
    status, metadata = pod.get("status") or {}, meta.metadata(pod)
    return (
        pod.get("spec"),
        metadata.get("labels"),
        metadata.get("ownerReferences"),
        metadata.get("deletionTimestamp"),
        status.get("startTime"),
        status.get("nominatedNodeName"),
        held(pod),
    )


@dataclass(slots=True)
class NodeInfo:
    """A node and what the pods on it take."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, Any], ...] = ()
    """Those that keep pods away (NoSchedule, NoExecute)."""
    soft_taints: tuple[Mapping[str, Any], ...] = ()
    unschedulable: bool = False
    allocatable: Resources = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    """Sizes in bytes by name."""
    makes_volumes: bool = False
    """It offers a directory to the built-in provisioner."""
    known: bool = True
    """False while only its pods have been seen."""
    requested: Resources = field(default_factory=dict)
    scored_cpu: int = 0
    scored_memory: int = 0
    pods: dict[str, PodInfo] = field(default_factory=dict)
    ports: Counter[Port] = field(default_factory=Counter)
    owners: Counter[str] = field(default_factory=Counter)
    groups: dict[Group, int] = field(default_factory=dict)
    """Its pods, counted by how they look to selectors."""
    voices: dict[Terms, int] = field(default_factory=dict)
    """How many of its pods say what about others."""
    nominees: dict[str, PodInfo] = field(default_factory=dict)
    """Pods for which others were ended here, and that are still to come."""

    def take(self, node: Object) -> None:
        """Reads the Node object anew; its pods stay."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        taints = spec.get("taints") or ()
        self.known = True
        self.labels = meta.labels(node)
        self.makes_volumes = bool(meta.annotations(node).get(DIRECTORY))
        self.taints = tuple(t for t in taints if t.get("effect") != "PreferNoSchedule")
        self.soft_taints = tuple(t for t in taints if t.get("effect") == "PreferNoSchedule")
        self.unschedulable = bool(spec.get("unschedulable"))
        self.allocatable = resources(status.get("allocatable") or status.get("capacity"))
        self.images = {
            name: int(image.get("sizeBytes") or 0)
            for image in status.get("images") or ()
            for name in image.get("names") or ()
        }

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.uid] = pod
        self._count(pod, 1)

    def remove(self, uid: str) -> None:
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        for name, count in pod.requests.items():
            self.requested[name] = self.requested.get(name, 0) + sign * count
        self.scored_cpu += sign * pod.scored[0]
        self.scored_memory += sign * pod.scored[1]
        for port in pod.ports:
            self.ports[port] += sign
        if pod.owner:
            self.owners[pod.owner] += sign
        _tally(self.groups, pod.group, sign)
        if pod.terms:
            _tally(self.voices, pod.terms, sign)


def _tally(counts: dict[T, int], one: T, sign: int) -> None:
    count = counts.get(one, 0) + sign
    if count:
        counts[one] = count
    else:
        del counts[one]


class Snapshot:
    """Every node with its pods, kept up to date change by change; placements that were decided but
    not seen yet (`assume`) count as made."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.namespaces: dict[str, Mapping[str, str]] = {}
        """The labels of each."""
        self._where: dict[str, str] = {}
        self._assumed: set[str] = set()
        self._nominated: dict[str, str] = {}

    def known(self) -> list[NodeInfo]:
        """The nodes that exist."""
        return [node for node in self.nodes.values() if node.known]

    def set_node(self, node: Object) -> None:
        self._node(meta.name(node)).take(node)

    def remove_node(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is None:
            return
        node.known = False
        self._drop_if_empty(node)

    def set_pod(self, pod: PodInfo) -> None:
        """A pod as the API has it. Without a node it changes nothing of an assumed placement."""
        if not pod.node:
            if pod.uid not in self._assumed:
                self.remove_pod(pod.uid)
            return
        self._assumed.discard(pod.uid)
        self._place(pod, pod.node)

    def assume(self, pod: PodInfo, node: str) -> None:
        """Counts the pod on the node before the API says so."""
        self._assumed.add(pod.uid)
        self._place(pod, node)

    def remove_pod(self, uid: str) -> None:
        """It is gone, has ended, or was not bound after all."""
        self._assumed.discard(uid)
        self.withdraw(uid)
        name = self._where.pop(uid, None)
        if name is not None:
            node = self.nodes[name]
            node.remove(uid)
            self._drop_if_empty(node)

    def nominate(self, pod: PodInfo, node: str) -> None:
        """Room is being made for the pod there: less important ones do not get it."""
        self.withdraw(pod.uid)
        if node in self.nodes:
            self.nodes[node].nominees[pod.uid] = pod
            self._nominated[pod.uid] = node

    def withdraw(self, uid: str) -> None:
        """It does not wait for a node any more."""
        node = self.nodes.get(self._nominated.pop(uid, ""))
        if node is not None:
            node.nominees.pop(uid, None)

    def placed(self, uid: str) -> bool:
        return uid in self._where

    def _place(self, pod: PodInfo, name: str) -> None:
        before = self._where.get(pod.uid)
        if before is not None:
            self.nodes[before].remove(pod.uid)
        self.withdraw(pod.uid)
        self._node(name).add(pod)
        self._where[pod.uid] = name

    def _node(self, name: str) -> NodeInfo:
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = NodeInfo(name, known=False)
        return node

    def _drop_if_empty(self, node: NodeInfo) -> None:
        if not node.known and not node.pods:
            self.nodes.pop(node.name, None)


def place_all(snapshot: Snapshot, nodes: Iterable[Object], pods: Iterable[Object]) -> Snapshot:
    """Fills a snapshot; returns it."""
    for node in nodes:
        snapshot.set_node(node)
    for pod in pods:
        snapshot.set_pod(PodInfo.of(pod))
    return snapshot
