"""Admission: what the cluster's own state says about a new object.

Pure: reads through `Lookup`, changes the request's private object in place, or refuses.
"""

from __future__ import annotations

import contextlib

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.qos import qos_class
from meshkube.api.types import Object
from meshkube.control.apiserver import classes, limits, service_accounts
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.strategy import AWAY

ALWAYS_KEPT = frozenset({"default", "kube-system", "kube-public"})
AWAY_SECONDS = 300
"""How long every pod puts up with a node that is away, where it says nothing else."""


def admit_create(
    kind: Kind, obj: Object, namespace: str, lookup: Lookup, away_seconds: int = AWAY_SECONDS
) -> None:
    """Raises `ApiError` 404 or 403. `away_seconds`: how long a pod stays bound to a node that is
    away, where it says nothing itself."""
    if kind.namespaced:
        _namespace(kind, meta.name(obj), namespace, lookup)
    if kind is kinds.POD:
        ranges = list(lookup.inside(kinds.LIMIT_RANGE, namespace))
        limits.fill_in(obj, ranges)
        service_accounts.admit(obj, namespace, lookup.find, lookup.all)
        _tolerations(obj, away_seconds)
        classes.priority(obj, lookup)
        classes.runtime_class(obj, lookup)
        limits.check(kind, obj, ranges)
        _quality(obj)
    elif kind is kinds.PERSISTENT_VOLUME_CLAIM:
        classes.storage_class(obj, lookup)
        limits.check(kind, obj, lookup.inside(kinds.LIMIT_RANGE, namespace))
    elif kind is kinds.INGRESS:
        classes.ingress_class(obj, lookup)
    elif kind is kinds.PRIORITY_CLASS:
        classes.only_one_default(obj, lookup)


def admit_place(kind: Kind, obj: Object, lookup: Lookup) -> None:
    """Once more before another try. Raises `ApiError` 404 or 403."""
    if kind.namespaced:
        _namespace(kind, meta.name(obj), meta.namespace(obj), lookup)


def admit_update(kind: Kind, obj: Object, old: Object, lookup: Lookup) -> None:
    """Raises `ApiError` 403."""
    if kind is kinds.PERSISTENT_VOLUME_CLAIM:
        classes.resize(obj, old, lookup)


def admit_resize(pod: Object, lookup: Lookup) -> None:
    """Raises `ApiError` 403."""
    limits.check(kinds.POD, pod, lookup.inside(kinds.LIMIT_RANGE, meta.namespace(pod)))


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


def _quality(pod: Object) -> None:
    """What a pod asks for is known from the start. A wrong quantity is told of by validation."""
    with contextlib.suppress(ValueError):
        pod["status"] = {**(pod.get("status") or {}), "qosClass": qos_class(pod)}


def _tolerations(pod: Object, seconds: int) -> None:
    """Every pod puts up with a node that is away for a while (Kubernetes'
    DefaultTolerationSeconds)."""
    spec = pod.setdefault("spec", {})
    known = spec.get("tolerations") or []
    for key in AWAY:
        if not any(_covers(toleration, key) for toleration in known):
            spec.setdefault("tolerations", []).append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": seconds,
                }
            )


def _covers(toleration: Object, key: str) -> bool:
    of_key = (toleration.get("key") or key) == key
    return of_key and (toleration.get("effect") or "NoExecute") == "NoExecute"
