"""Which nodes run a DaemonSet's pod, and what such a pod looks like.

Source: the DaemonSet concept page, "Taints and tolerations" and "How Daemon Pods are scheduled".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers.history import POD_HASH
from meshkube.control.controllers.pod_control import pod_of
from meshkube.control.scheduler.filters import affinity, tolerates
from meshkube.control.scheduler.model import NodeInfo, PodInfo

GENERATION = "deprecated.daemonset.template.generation"
POD_GENERATION = "pod-template-generation"
NODE_NAME = "metadata.name"

_TOLERATED: tuple[tuple[str, str], ...] = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_ON_HOST_NETWORK: tuple[str, str] = ("node.kubernetes.io/network-unavailable", "NoSchedule")


class Placement:
    """Says of each node whether pods of one template run there."""

    def __init__(self, daemon_set: Object) -> None:
        spec = _pod_spec(daemon_set)
        self._node_name = spec.get("nodeName") or ""
        bare = {**spec, "nodeName": ""}
        self._pod = PodInfo.of({"metadata": {}, "spec": bare})
        self._tolerations = tolerations(spec)

    def on(self, node: Object) -> tuple[bool, bool]:
        """Whether a pod should start there, and whether one that runs there should go on."""
        info = NodeInfo(meta.name(node))
        info.labels = meta.labels(node)
        if self._node_name not in ("", info.name) or affinity(self._pod, info) is not None:
            return False, False
        taints = [
            taint
            for taint in (node.get("spec") or {}).get("taints") or ()
            if taint.get("effect") != "PreferNoSchedule" and not tolerates(self._tolerations, taint)
        ]
        return not taints, all(taint.get("effect") != "NoExecute" for taint in taints)


def _pod_spec(daemon_set: Object) -> Object:
    return (daemon_set["spec"].get("template") or {}).get("spec") or {}


def tolerations(spec: Mapping[str, Any]) -> list[Object]:
    """Those of the template, and those that each daemon pod has."""
    wanted = list(spec.get("tolerations") or ())
    extra = list(_TOLERATED)
    if spec.get("hostNetwork"):
        extra.append(_ON_HOST_NETWORK)
    for key, effect in extra:
        entry = {"key": key, "operator": "Exists", "effect": effect}
        if entry not in wanted:
            wanted.append(entry)
    return wanted


def new_pod(daemon_set: Object, node: str, mark: str) -> Object:
    """A pod that only this node can take. `mark` is the hash of the template's revision."""
    pod = pod_of(kinds.DAEMON_SET, daemon_set, daemon_set["spec"]["template"])
    labels = pod["metadata"].setdefault("labels", {})
    labels[POD_HASH] = mark
    labels[POD_GENERATION] = meta.annotations(daemon_set).get(GENERATION) or "1"
    spec = pod["spec"]
    spec["tolerations"] = tolerations(spec)
    field = {"key": NODE_NAME, "operator": "In", "values": [node]}
    # What the template requires of nodes was looked at already, so the name takes its place.
    node_affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": [{"matchFields": [field]}]
    }
    return pod


def node_of(pod: Object) -> str:
    """The node a daemon pod runs on, or is meant for."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            values = list(field.get("values") or [])
            one = field.get("operator") == "In" and len(values) == 1
            if one and field.get("key") == NODE_NAME:
                return str(values[0])
    return ""
