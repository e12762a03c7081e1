"""Namespaces being deleted: emptied of everything, then let go.

Source: the Namespace API reference (its conditions), and Kubernetes' "Namespaces walkthrough".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.loop import Context, Controller

FINALIZER = "kubernetes"
LOOK_AGAIN = 0.5
"""Seconds between two looks at what remains."""

# Pods first: they take the longest to go.
CONTENT: tuple[Kind, ...] = tuple(
    sorted(
        (kind for kind in kinds.STORED if kind.namespaced),
        key=lambda kind: kind is not kinds.POD,
    )
)


@dataclass(slots=True)
class Remaining:
    """What a look at the namespace found."""

    counts: Counter[str] = field(default_factory=Counter)
    """Objects by resource."""
    finalizers: Counter[str] = field(default_factory=Counter)
    """Objects by finalizer."""
    failure: str = ""

    def __bool__(self) -> bool:
        return bool(self.counts) or bool(self.failure)


def conditions(namespace: Object, remaining: Remaining, now: datetime) -> list[Object]:
    """The conditions that say what a deletion waits for."""
    result = [dict(entry) for entry in (namespace.get("status") or {}).get("conditions") or ()]
    for type, (status, reason, message) in _words(remaining).items():
        entry = {
            "type": type,
            "status": status,
            "lastTransitionTime": meta.timestamp(now),
            "reason": reason,
            "message": message,
        }
        pods.set_condition(result, entry)
    return result


def _words(remaining: Remaining) -> Mapping[str, tuple[str, str, str]]:
    counts = ", ".join(
        f"{resource} has {count} resource instances"
        for resource, count in sorted(remaining.counts.items())
    )
    held = ", ".join(
        f"{name} in {count} resource instances"
        for name, count in sorted(remaining.finalizers.items())
    )
    content = "All content successfully deleted, may be waiting on finalization"
    return {
        "NamespaceDeletionDiscoveryFailure": (
            "False", "ResourcesDiscovered", "All resources successfully discovered",
        ),
        "NamespaceDeletionGroupVersionParsingFailure": (
            "False", "ParsedGroupVersions", "All legacy kube types successfully parsed",
        ),
        "NamespaceDeletionContentFailure": ("True", "ContentDeletionFailed", remaining.failure)
        if remaining.failure
        else ("False", "ContentDeleted", content),
        "NamespaceContentRemaining": (
            "True", "SomeResourcesRemain", f"Some resources are remaining: {counts}",
        )
        if counts
        else ("False", "ContentRemoved", "All content successfully removed"),
        "NamespaceFinalizersRemaining": (
            "True",
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {held}",
        )
        if held
        else ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
    }  # fmt: skip


async def reconcile(context: Context, key: str) -> float | None:
    namespace = context.caches.of(kinds.NAMESPACE).get(key)
    if namespace is None or not meta.deleting(namespace):
        return None
    if FINALIZER not in (namespace["spec"].get("finalizers") or ()):
        return None
    remaining = await _empty(context, key)
    namespace = await _write_conditions(context, namespace, remaining)
    if remaining:
        return LOOK_AGAIN
    finalized = meta.copy(namespace)
    finalized["spec"]["finalizers"] = [
        name for name in namespace["spec"]["finalizers"] if name != FINALIZER
    ]
    await context.client.update(kinds.NAMESPACE, finalized, subresource="finalize")
    return None


async def _write_conditions(context: Context, namespace: Object, remaining: Remaining) -> Object:
    wanted = conditions(namespace, remaining, context.clock.now())
    if wanted == ((namespace.get("status") or {}).get("conditions") or []):
        return namespace
    changed = meta.copy(namespace)
    changed.setdefault("status", {})["conditions"] = wanted
    return await context.client.update(kinds.NAMESPACE, changed, subresource="status")


async def _empty(context: Context, namespace: str) -> Remaining:
    """Deletes what is there now, by the API's own word and not a cache's; what cannot go yet
    remains."""
    remaining = Remaining()
    custom = [kind for kind in context.caches.kinds if kind.definition and kind.namespaced]
    for kind in (*CONTENT, *custom):
        for obj in (await context.client.list(kind, namespace)).items:
            try:
                if await _gone(context, kind, obj):
                    continue
            except ApiError as error:
                remaining.failure = error.message
            remaining.counts[kind.resource] += 1
            remaining.finalizers.update(meta.metadata(obj).get("finalizers") or ())
    return remaining


async def _gone(context: Context, kind: Kind, obj: Object) -> bool:
    """Asks for the deletion where nobody has; True where that was all it took."""
    name, namespace = meta.name(obj), meta.namespace(obj)
    if meta.deleting(obj):
        return False
    try:
        await context.client.delete(kind, name, namespace, propagation="Background")
        await context.client.get(kind, name, namespace)
    except ApiError as error:
        if error.code == 404:
            return True
        raise
    return False


CONTROLLER = Controller(name="namespace", kind=kinds.NAMESPACE, reconcile=reconcile, workers=2)
