"""Resource quotas: what an object uses of them, and which quotas it falls under. Pure.

Source: the Kubernetes documents, "Resource Quotas". The API server charges quotas with what is
made; a controller counts again what there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from meshkube.api import kinds, meta, quantities
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import amounts, pods
from meshkube.control.amounts import Amounts

_COUNTED: Final = {
    kinds.CONFIG_MAP: "configmaps",
    kinds.SECRET: "secrets",
    kinds.RESOURCE_QUOTA: "resourcequotas",
    kinds.REPLICATION_CONTROLLER: "replicationcontrollers",
}
"""Kinds with a short name of their own; every kind is counted as `count/RESOURCE` too."""
_PLAIN: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_STORAGE_CLASS: Final = ".storageclass.storage.k8s.io/"
_OLD_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


def usage(kind: Kind, obj: Object, now: datetime) -> Amounts:
    """What one object uses, by every name under which a quota may limit it."""
    used: Amounts = {f"count/{kind.resource}": "1"}
    if kind is kinds.POD:
        if not _over(obj, now):
            used |= _of_pod(obj)
    elif kind is kinds.SERVICE:
        used |= _of_service(obj)
    elif kind is kinds.PERSISTENT_VOLUME_CLAIM:
        used |= _of_claim(obj)
    elif kind in _COUNTED:
        used[_COUNTED[kind]] = "1"
    return used


def _over(pod: Object, now: datetime) -> bool:
    """A pod that ended, or should long have gone, uses nothing."""
    if pods.finished(pod):
        return True
    since = meta.metadata(pod).get("deletionTimestamp")
    grace = meta.metadata(pod).get("deletionGracePeriodSeconds")
    if since is None or grace is None:
        return False
    return now > meta.parse_timestamp(since) + timedelta(seconds=int(grace))


def _of_pod(pod: Object) -> Amounts:
    spec = pod.get("spec") or {}
    used: Amounts = {"pods": "1"}
    for name, amount in amounts.of_pod(spec, "requests").items():
        used[f"requests.{name}"] = amount
        if name in _PLAIN or name.startswith("hugepages-"):
            used[name] = amount
    for name, amount in amounts.of_pod(spec, "limits").items():
        if name in _PLAIN:
            used[f"limits.{name}"] = amount
    return used


def _of_service(service: Object) -> Amounts:
    spec = service.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or ()
    node_ports = len(ports) if kind == "NodePort" else 0
    if kind == "LoadBalancer":
        node_ports = len(ports)
        if spec.get("allocateLoadBalancerNodePorts") is False:
            node_ports = sum(1 for port in ports if port.get("nodePort"))
    balancers = int(kind == "LoadBalancer")
    return {
        "services": "1",
        "services.nodeports": str(node_ports),
        "services.loadbalancers": str(balancers),
    }


def _of_claim(claim: Object) -> Amounts:
    spec = claim.get("spec") or {}
    used: Amounts = {"persistentvolumeclaims": "1"}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        used["requests.storage"] = str(asked)
    class_ = meta.annotations(claim).get(_OLD_CLASS) or spec.get("storageClassName")
    if class_:
        used |= {f"{class_}{_STORAGE_CLASS}{name}": amount for name, amount in used.items()}
    return used


def matches(quota: Object, kind: Kind, obj: Object) -> bool:
    """Whether the quota's scopes take the object in: only pods are told apart by scopes."""
    spec = quota.get("spec") or {}
    terms = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    terms += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    if kind is not kinds.POD:
        return not terms
    return all(_in_scope(term, obj) for term in terms)


def _in_scope(term: Mapping[str, Any], pod: Object) -> bool:
    spec = pod.get("spec") or {}
    ends = spec.get("activeDeadlineSeconds") is not None
    match term.get("scopeName"):
        case "Terminating":
            return ends
        case "NotTerminating":
            return not ends
        case "BestEffort":
            return _best_effort(spec)
        case "NotBestEffort":
            return not _best_effort(spec)
        case "PriorityClass":
            return _selected(term, spec.get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec)
    return False


def _best_effort(spec: Mapping[str, Any]) -> bool:
    """Nothing is asked for, nothing is limited."""
    held = {**amounts.of_pod(spec, "requests"), **amounts.of_pod(spec, "limits")}
    return not {"cpu", "memory"} & held.keys()


def _selected(term: Mapping[str, Any], name: str) -> bool:
    operator, values = term.get("operator"), term.get("values") or ()
    if operator == "In":
        return name in values
    if operator == "NotIn":
        return name not in values
    return bool(name) is (operator == "Exists")


def _crosses_namespaces(spec: Mapping[str, Any]) -> bool:
    for side in ("podAffinity", "podAntiAffinity"):
        held = (spec.get("affinity") or {}).get(side) or {}
        hard = held.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        soft = held.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        for term in [*hard, *(each.get("podAffinityTerm") or {} for each in soft)]:
            if term.get("namespaces") or term.get("namespaceSelector") is not None:
                return True
    return False


def total(hard: Mapping[str, Any], uses: Iterable[Amounts]) -> Amounts:
    """What is used of each thing that a quota limits."""
    found: Amounts = dict.fromkeys(hard, "0")
    for used in uses:
        amounts.add(found, {name: amount for name, amount in used.items() if name in hard})
    return {name: str(quantities.canonical(amount)) for name, amount in found.items()}


def limits(kind: Kind, hard: Iterable[str]) -> bool:
    """Whether a quota with these names has anything to say about a kind."""
    return any(_about(kind, name) for name in hard)


def _about(kind: Kind, name: str) -> bool:
    if name == f"count/{kind.resource}":
        return True
    if kind is kinds.SERVICE:
        return name == "services" or name.startswith("services.")
    claims = "persistentvolumeclaims"
    if kind is kinds.PERSISTENT_VOLUME_CLAIM:
        return name in (claims, "requests.storage") or _STORAGE_CLASS in name
    if kind is kinds.POD:
        of_pods = name in _PLAIN or name == "pods" or name.startswith("hugepages-")
        of_claims = name == "requests.storage" or _STORAGE_CLASS in name
        return of_pods or (name.startswith(("requests.", "limits.")) and not of_claims)
    return _COUNTED.get(kind) == name


def unnamed(pod: Object, hard: Iterable[str]) -> dict[str, list[str]]:
    """Of a pod: the limited resources that containers do not say their need of, and which."""
    missing: dict[str, list[str]] = {}
    spec = pod.get("spec") or {}
    for name in hard:
        side, dot, resource = name.partition(".")
        if not dot or side not in ("requests", "limits"):
            side, resource = "requests", name
        if resource not in ("cpu", "memory"):
            continue
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            if resource not in ((container.get("resources") or {}).get(side) or {}):
                missing.setdefault(name, []).append(container.get("name") or "")
    return missing
