"""Classes that objects name, and those they get where they name none: priority, storage, ingress.

Pure. Sources: the Kubernetes documents, "Pod Priority and Preemption", "Storage Classes", and
"Ingress".
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import errors, kinds, meta, quantities
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.apiserver.lookup import Lookup

DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
DEFAULT_STORAGE_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_OLD_STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
_OLD_INGRESS_CLASS = "kubernetes.io/ingress.class"


def priority(pod: Object, lookup: Lookup) -> None:
    """Gives a new pod the priority of its class. Raises `ApiError` 403."""
    spec = pod["spec"]
    name, class_ = spec.get("priorityClassName") or "", None
    if name:
        class_ = lookup.find(kinds.PRIORITY_CLASS, name)
        if class_ is None:
            raise _refused(pod, f"no PriorityClass with name {name} was found")
    else:
        class_ = _default_priority(lookup)
        if class_ is not None:
            spec["priorityClassName"] = meta.name(class_)
    value = (class_ or {}).get("value") or 0
    policy = (class_ or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    if spec.get("priority") not in (None, value):
        raise _refused(
            pod,
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name",
        )
    if (spec.get("preemptionPolicy") or policy) != policy:
        raise _refused(
            pod,
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be "
            f"provided in pod spec; priority admission controller computed {policy} from the "
            "given PriorityClass name",
        )
    spec["priority"], spec["preemptionPolicy"] = value, policy


def _default_priority(lookup: Lookup) -> Object | None:
    """Of several default classes the one with the least priority."""
    found = (each for each in lookup.all(kinds.PRIORITY_CLASS) if each.get("globalDefault"))
    return min(found, key=lambda each: each.get("value") or 0, default=None)


def _refused(pod: Object, why: str) -> errors.ApiError:
    return errors.forbidden("", "pods", meta.name(pod), why)


def only_one_default(class_: Object, lookup: Lookup) -> None:
    """Raises `ApiError` 403 for a second PriorityClass that is the default."""
    if not class_.get("globalDefault"):
        return
    other = _default_priority(lookup)
    if other is not None and meta.name(other) != meta.name(class_):
        why = (
            f"PriorityClass {meta.name(other)} is already marked as default. Only one default can "
            "exist"
        )
        kind = kinds.PRIORITY_CLASS
        raise errors.forbidden(kind.group, kind.plural, meta.name(class_), why)


def runtime_class(pod: Object, lookup: Lookup) -> None:
    """Gives a new pod the overhead and the places of its RuntimeClass. Raises `ApiError` 403."""
    spec = pod["spec"]
    name = spec.get("runtimeClassName")
    if not name:
        return
    class_ = lookup.find(kinds.RUNTIME_CLASS, name)
    if class_ is None:
        raise _refused(pod, f'pod rejected: RuntimeClass "{name}" not found')
    overhead = (class_.get("overhead") or {}).get("podFixed") or {}
    if spec.get("overhead") and spec["overhead"] != overhead:
        why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        raise _refused(pod, why)
    if overhead:
        spec["overhead"] = dict(overhead)
    places = class_.get("scheduling") or {}
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (places.get("nodeSelector") or {}).items():
        if selector.setdefault(key, value) != value:
            why = (
                f"pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value};"
                f" pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
            raise _refused(pod, why)
    if selector:
        spec["nodeSelector"] = selector
    known = spec.get("tolerations") or []
    extra = [each for each in places.get("tolerations") or () if each not in known]
    if extra:
        spec["tolerations"] = [*known, *extra]


def storage_class(claim: Object, lookup: Lookup) -> None:
    """Gives a claim that names no class the default one; an empty name stands for none."""
    spec = claim.setdefault("spec", {})
    if spec.get("storageClassName") is not None or _OLD_STORAGE_CLASS in meta.annotations(claim):
        return
    found = _newest(lookup.all(kinds.STORAGE_CLASS), DEFAULT_STORAGE_CLASS)
    if found:
        spec["storageClassName"] = found


def resize(claim: Object, old: Object, lookup: Lookup) -> None:
    """A claim grows only where its class says that its volumes can. Raises `ApiError` 403."""
    if quantities.compare(volumes.size(claim), volumes.size(old)) <= 0:
        return
    class_ = lookup.find(kinds.STORAGE_CLASS, volumes.class_of(claim))
    if class_ is None or not class_.get("allowVolumeExpansion"):
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions"
            " the pvc must support resize"
        )
        raise errors.forbidden("", "persistentvolumeclaims", meta.name(claim), why)


def ingress_class(ingress: Object, lookup: Lookup) -> None:
    """Gives an ingress that names no class the default one."""
    spec = ingress.setdefault("spec", {})
    if spec.get("ingressClassName") is not None or _OLD_INGRESS_CLASS in meta.annotations(ingress):
        return
    found = _newest(lookup.all(kinds.INGRESS_CLASS), (DEFAULT_INGRESS_CLASS,))
    if found:
        spec["ingressClassName"] = found


def _newest(classes: Iterable[Object], marks: tuple[str, ...]) -> str:
    """The name of the class that is the default: the newest, then the first by name."""
    marked = [
        each for each in classes if any(meta.annotations(each).get(m) == "true" for m in marks)
    ]
    marked.sort(key=meta.name)
    created = lambda each: str(meta.metadata(each).get("creationTimestamp"))  # noqa: E731
    return meta.name(max(marked, key=created)) if marked else ""
