"""What a deletion does to an object: remove it now, mark it, or nothing more.

Pure. Source: Kubernetes' `rest.BeforeDelete` and the garbage collection documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import errors, kinds, meta
from meshkube.api.custom import names
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.options import DeleteOptions
from meshkube.control.apiserver.strategy import has_generation

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_ORPHANING = frozenset({kinds.REPLICATION_CONTROLLER, kinds.JOB})
"""Older than the garbage collector: who deletes one and says nothing of its pods keeps them, as in
Kubernetes. kubectl always says."""
_BY_PROPAGATION = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND], "Background": []}


@dataclass(frozen=True, slots=True)
class Plan:
    """`marked` is the object to store instead, None where it stays as it is. With `remove` it goes
    now."""

    remove: bool
    marked: Object | None = None


def plan(kind: Kind, obj: Object, options: DeleteOptions, now: datetime) -> Plan:
    """Decides; `obj` is shared and is not changed. Raises `ApiError` 409 where a precondition does
    not hold."""
    _check(kind, obj, options)
    finalizers = _finalizers(kind, obj, options)
    grace = _grace(kind, obj, options)
    if kind is kinds.CUSTOM_RESOURCE_DEFINITION and not meta.deleting(obj):
        finalizers = [*(one for one in finalizers if one != names.FINALIZER), names.FINALIZER]
    if not (finalizers or grace or _namespace_holds(kind, obj)):
        return Plan(remove=True)
    deleting = meta.deleting(obj)
    if deleting and not _sooner(obj, grace) and finalizers == _kept(obj):
        return Plan(remove=False)
    marked = meta.copy(obj)
    metadata = marked["metadata"]
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    if not deleting or _sooner(obj, grace):
        metadata["deletionGracePeriodSeconds"] = grace
        metadata["deletionTimestamp"] = meta.timestamp(now + timedelta(seconds=grace))
    if not deleting and has_generation(kind):
        metadata["generation"] = meta.generation(obj) + 1
    if kind is kinds.CUSTOM_RESOURCE_DEFINITION and not deleting:
        words = "CustomResourceDefinition marked for deletion; deletion of its objects will begin"
        status, moment = marked.setdefault("status", {}), meta.timestamp(now)
        why = "InstanceDeletionPending"
        names.set_condition(status, "Terminating", "True", why, words, moment)
    if kind is kinds.NAMESPACE:
        marked.setdefault("status", {})["phase"] = "Terminating"
    return Plan(remove=False, marked=marked)


def finished(kind: Kind, obj: Object) -> bool:
    """True for an object marked for deletion which nothing holds any more: an update that leaves it
    so removes it."""
    if not meta.deleting(obj) or meta.metadata(obj).get("finalizers"):
        return False
    if meta.metadata(obj).get("deletionGracePeriodSeconds"):
        return False
    return not _namespace_holds(kind, obj)


def _check(kind: Kind, obj: Object, options: DeleteOptions) -> None:
    checks = (
        ("UID", options.uid, meta.uid(obj)),
        ("ResourceVersion", options.resource_version, meta.resource_version(obj)),
    )
    for what, asked, current in checks:
        if asked and asked != current:
            why = (
                f"the {what} in the precondition ({asked}) does not match the {what} in record "
                f"({current}). The object might have been deleted and then recreated"
            )
            raise errors.conflict(kind.group, kind.plural, meta.name(obj), why)


def _kept(obj: Object) -> list[str]:
    return list(meta.metadata(obj).get("finalizers") or ())


def _finalizers(kind: Kind, obj: Object, options: DeleteOptions) -> list[str]:
    kept = _kept(obj)
    propagation = options.propagation
    if propagation is None and kind in _ORPHANING and not {ORPHAN, FOREGROUND} & {*kept}:
        propagation = "Orphan"
    if propagation is None:
        return kept
    others: Iterable[str] = (name for name in kept if name not in (ORPHAN, FOREGROUND))
    return [*others, *_BY_PROPAGATION[propagation]]


def _grace(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    """Seconds a pod gets to stop; 0 for all else and for a pod that no node runs."""
    if kind is not kinds.POD:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_period is not None:
        return max(0, options.grace_period)
    already = meta.metadata(obj).get("deletionGracePeriodSeconds")
    if already is not None:
        return int(already)
    return int(spec.get("terminationGracePeriodSeconds", 30))


def _sooner(obj: Object, grace: int) -> bool:
    return grace < int(meta.metadata(obj).get("deletionGracePeriodSeconds") or 0)


def _namespace_holds(kind: Kind, obj: Object) -> bool:
    return kind is kinds.NAMESPACE and bool((obj.get("spec") or {}).get("finalizers"))
