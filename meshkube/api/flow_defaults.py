"""The FlowSchemas and PriorityLevelConfigurations that every cluster has.

Source: the Kubernetes documentation, "API Priority and Fairness", and the objects that
kube-apiserver 1.33 makes. meshkube does not queue requests by them: they are there to be read, and
for clients that expect them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshkube.api.types import Object

VERSION = "flowcontrol.apiserver.k8s.io/v1"
_UPDATED = {"apf.kubernetes.io/autoupdate-spec": "true"}
_ALL_RESOURCES = {
    "verbs": ["*"],
    "apiGroups": ["*"],
    "resources": ["*"],
    "clusterScope": True,
    "namespaces": ["*"],
}
_ALL_PATHS = {"verbs": ["*"], "nonResourceURLs": ["*"]}

# Name: shares, lendable percent, (queues, hand size, queue length).
LEVELS: dict[str, tuple[int, int, tuple[int, int, int] | None]] = {
    "system": (30, 33, (64, 6, 50)),
    "node-high": (40, 25, (64, 6, 50)),
    "leader-election": (10, 0, (16, 4, 50)),
    "workload-high": (40, 50, (128, 6, 50)),
    "workload-low": (100, 90, (128, 6, 50)),
    "global-default": (20, 50, (128, 6, 50)),
    "catch-all": (5, 0, None),
}


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _account(name: str, namespace: str = "kube-system") -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": namespace}}


def _in(groups: list[str], resources: list[str], namespaces: list[str], **more: Any) -> Object:
    verbs = more.pop("verbs", ["get", "create", "update"])
    return {
        "verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": namespaces,
        **more,
    }  # fmt: skip


_EVERYBODY = [_group("system:unauthenticated"), _group("system:authenticated")]
_LEASES = [_in(["coordination.k8s.io"], ["leases"], ["kube-system"])]
_NODE_LEASE = _in(["coordination.k8s.io"], ["leases"], ["kube-node-lease"], verbs=["get", "update"])
_NODE_STATUS = _in(
    [""], ["nodes", "nodes/status"], ["*"], verbs=["get", "patch", "update"], clusterScope=True
)

# Name: level, precedence, how flows are told apart, subjects, resource rules, other rules.
SCHEMAS: dict[str, tuple[str, int, str, list[Object], list[Object], list[Object]]] = {
    "exempt": ("exempt", 1, "", [_group("system:masters")], [_ALL_RESOURCES], [_ALL_PATHS]),
    "probes": ("exempt", 2, "", _EVERYBODY, [], [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]),
    "system-leader-election": ("leader-election", 100, "ByUser", [
        _user("system:kube-controller-manager"), _user("system:kube-scheduler"),
        _account("*")], _LEASES, []),
    "endpoint-controller": ("workload-high", 150, "ByUser", [
        _user("system:kube-controller-manager"), _account("endpoint-controller"),
        _account("endpointslicemirroring-controller")],
        [_in([""], ["endpoints"], ["*"], verbs=["get", "create", "update"])], []),
    "workload-leader-election": ("leader-election", 200, "ByUser", [_account("*")],
        [_in(["coordination.k8s.io"], ["leases"], ["*"])], []),
    "system-node-high": ("node-high", 400, "ByUser", [_group("system:nodes")],
        [_NODE_STATUS, _NODE_LEASE], []),
    "system-nodes": ("system", 500, "ByUser", [_group("system:nodes")],
        [_ALL_RESOURCES], [_ALL_PATHS]),
    "kube-controller-manager": ("workload-high", 800, "ByNamespace", [
        _user("system:kube-controller-manager")], [_ALL_RESOURCES], [_ALL_PATHS]),
    "kube-scheduler": ("workload-high", 800, "ByNamespace", [_user("system:kube-scheduler")],
        [_ALL_RESOURCES], [_ALL_PATHS]),
    "kube-system-service-accounts": ("workload-high", 900, "ByNamespace", [_account("*")],
        [_ALL_RESOURCES], [_ALL_PATHS]),
    "service-accounts": ("workload-low", 9000, "ByUser", [_group("system:serviceaccounts")],
        [_ALL_RESOURCES], [_ALL_PATHS]),
    "global-default": ("global-default", 9900, "ByUser", _EVERYBODY,
        [_ALL_RESOURCES], [_ALL_PATHS]),
    "catch-all": ("catch-all", 10000, "ByUser", _EVERYBODY, [_ALL_RESOURCES], [_ALL_PATHS]),
}  # fmt: skip


def objects() -> Iterator[Object]:
    """All of them, levels first."""
    exempt = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    yield _object("PriorityLevelConfiguration", "exempt", exempt)
    for name, (shares, lendable, queues) in LEVELS.items():
        response: Object = {"type": "Reject"}
        if queues is not None:
            number, hand, length = queues
            queuing = {"queues": number, "handSize": hand, "queueLengthLimit": length}
            response = {"type": "Queue", "queuing": queuing}
        limited = {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": response,
        }
        yield _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})
    for name, (level, precedence, method, subjects, resources, paths) in SCHEMAS.items():
        rule: Object = {"subjects": subjects}
        if resources:
            rule["resourceRules"] = resources
        if paths:
            rule["nonResourceRules"] = paths
        spec: Object = {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "rules": [rule],
        }
        if method:
            spec["distinguisherMethod"] = {"type": method}
        yield _object("FlowSchema", name, spec)


def _object(kind: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "annotations": dict(_UPDATED)}
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}
