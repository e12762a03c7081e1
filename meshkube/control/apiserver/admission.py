"""Admission: what the cluster's own state says about a new object.

Pure: reads through `Lookup`, changes the request's private object in place, or refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver import service_accounts

ALWAYS_KEPT = frozenset({"default", "kube-system", "kube-public"})
AWAY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
AWAY_SECONDS = 300
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"


class Lookup(Protocol):
    """Reads of the caches, at once."""

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None: ...

    def all(self, kind: Kind) -> Iterable[Object]: ...


def admit_create(kind: Kind, obj: Object, namespace: str, lookup: Lookup) -> None:
    """Raises `ApiError` 404 or 403."""
    if kind.namespaced:
        _namespace(kind, meta.name(obj), namespace, lookup)
    if kind is kinds.POD:
        service_accounts.admit(obj, namespace, lookup.find, lookup.all)
        _tolerations(obj)
        _priority(obj)
    elif kind is kinds.INGRESS:
        _ingress_class(obj, lookup)


def admit_delete(kind: Kind, name: str) -> None:
    """Raises `ApiError` 403 for a namespace the cluster cannot be without."""
    if kind is kinds.NAMESPACE and name in ALWAYS_KEPT:
        raise errors.forbidden("", kind.plural, name, "this namespace may not be deleted")


def _namespace(kind: Kind, name: str, namespace: str, lookup: Lookup) -> None:
    found = lookup.find(kinds.NAMESPACE, namespace)
    if found is None:
        raise errors.not_found("", "namespaces", namespace)
    if not meta.deleting(found):
        return
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = errors.forbidden(kind.group, kind.plural, name, why)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    error.details["causes"] = [cause]
    raise error


def _tolerations(pod: Object) -> None:
    """Every pod puts up with a node that is away for five minutes, where it says nothing else of
    that (Kubernetes' DefaultTolerationSeconds)."""
    spec = pod.setdefault("spec", {})
    known = spec.get("tolerations") or []
    for key in AWAY:
        if not any(_covers(toleration, key) for toleration in known):
            spec.setdefault("tolerations", []).append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": AWAY_SECONDS,
                }
            )


def _covers(toleration: Object, key: str) -> bool:
    of_key = (toleration.get("key") or key) == key
    return of_key and (toleration.get("effect") or "NoExecute") == "NoExecute"


def _priority(pod: Object) -> None:
    """No PriorityClass is served: every pod without a priority has that of none."""
    spec = pod["spec"]
    if spec.get("priority") is None:
        spec["priority"] = 0
    if not spec.get("preemptionPolicy"):
        spec["preemptionPolicy"] = "PreemptLowerPriority"


def _ingress_class(ingress: Object, lookup: Lookup) -> None:
    spec = ingress.setdefault("spec", {})
    old_way = meta.annotations(ingress).get("kubernetes.io/ingress.class")
    if spec.get("ingressClassName") is not None or old_way is not None:
        return
    defaults = [
        found
        for found in lookup.all(kinds.INGRESS_CLASS)
        if meta.annotations(found).get(DEFAULT_CLASS) == "true"
    ]
    if defaults:
        newest = max(defaults, key=lambda one: str(meta.metadata(one).get("creationTimestamp")))
        spec["ingressClassName"] = meta.name(newest)
