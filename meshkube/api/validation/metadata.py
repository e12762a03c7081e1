"""Metadata of every kind: names by kind, labels, annotations, owners, finalizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    Shown,
    child,
    forbidden,
    go_strings,
    invalid,
    item,
    required,
    too_long,
)

MAX_ANNOTATIONS: Final = 256 * 1024
"""Bytes of all keys and values together."""

_NAMES: Final[dict[Kind, formats.NameCheck]] = {
    kinds.IP_ADDRESS: formats.strict_ip,
    kinds.NAMESPACE: formats.dns_label,
    kinds.SERVICE: formats.dns_1035_label,
    kinds.STATEFUL_SET: formats.dns_label,
    kinds.API_SERVICE: formats.path_segment,
    kinds.ROLE: formats.path_segment,
    kinds.CLUSTER_ROLE: formats.path_segment,
    kinds.ROLE_BINDING: formats.path_segment,
    kinds.CLUSTER_ROLE_BINDING: formats.path_segment,
}
# Kinds whose finalizers are checked more strictly than the rest.
_CORE: Final = frozenset(kind for kind in kinds.KINDS if not kind.group)
# Kinds whose names and finalizers are not looked at again on update.
_PARTLY_ON_UPDATE: Final = frozenset(
    {
        kinds.NAMESPACE,
        kinds.NODE,
        kinds.DEPLOYMENT,
        kinds.LEASE,
        kinds.SERVICE_ACCOUNT,
        kinds.STATEFUL_SET,
        kinds.CRON_JOB,
    }
)
_STANDARD_FINALIZERS: Final = ("kubernetes", "orphan", "foregroundDeletion")
_KEPT: Final = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_CHECKED: Final = (
    "name",
    "namespace",
    "generateName",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)


def validate_metadata(kind: Kind, obj: Object) -> Faults:
    """The metadata of an object that is to be created; its name is already generated."""
    meta = obj.get("metadata") or {}
    faults = _names(_NAMES.get(kind, formats.dns_subdomain), meta)
    faults += _namespace(kind, meta)
    if (meta.get("generation") or 0) < 0:
        faults.append(invalid("metadata.generation", meta["generation"], NOT_NEGATIVE))
    faults += _common(meta)
    faults += _finalizers(meta.get("finalizers") or [], strictly=kind in _CORE)
    return faults


def validate_metadata_update(kind: Kind, obj: Object, old: Object) -> Faults:
    """What an update may not do to metadata; a kept field that is missing was not given."""
    meta, before = obj.get("metadata") or {}, old.get("metadata") or {}
    faults: Faults = []
    if before.get("deletionTimestamp"):
        faults += _no_new_finalizers(meta.get("finalizers") or [], before.get("finalizers") or [])
    for field in ("name", "namespace"):
        value = meta.get(field) or ""
        if value != (before.get(field) or ""):
            faults.append(invalid(f"metadata.{field}", value, IMMUTABLE))
    for field in _KEPT:
        if meta.get(field) and meta[field] != before.get(field):
            faults.append(invalid(f"metadata.{field}", meta[field], IMMUTABLE))
    if all(meta.get(field) == before.get(field) for field in _CHECKED):
        # It was right when it was written.
        return faults
    if kind in _PARTLY_ON_UPDATE:
        return faults + _common(meta)
    return faults + validate_metadata(kind, obj)


def validate_labels(labels: Mapping[str, Any], path: str) -> Faults:
    """Keys and values of labels, as on objects and in selectors."""
    faults: Faults = []
    for key, value in labels.items():
        faults += formats.faults(path, key, formats.qualified_name(key))
        faults += formats.faults(path, value, formats.label_value(value))
    return faults


def validate_annotations(annotations: Mapping[str, str], path: str) -> Faults:
    faults: Faults = []
    for key in annotations:
        faults += formats.faults(path, key, formats.qualified_name(key.lower()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        faults.append(too_long(path, MAX_ANNOTATIONS))
    return faults


def _names(check: formats.NameCheck, meta: Object) -> Faults:
    faults: Faults = []
    base, name = meta.get("generateName") or "", meta.get("name") or ""
    if base:
        faults += formats.faults("metadata.generateName", base, formats.as_prefix(check, base))
    if name:
        faults += formats.faults("metadata.name", name, check(name))
    else:
        faults.append(required("metadata.name", "name or generateName is required"))
    return faults


def _namespace(kind: Kind, meta: Object) -> Faults:
    namespace = meta.get("namespace") or ""
    if not kind.namespaced:
        return [forbidden("metadata.namespace", "not allowed on this type")] if namespace else []
    if not namespace:
        return [required("metadata.namespace")]
    return list(formats.faults("metadata.namespace", namespace, formats.dns_label(namespace)))


def _common(meta: Object) -> Faults:
    faults = validate_labels(meta.get("labels") or {}, "metadata.labels")
    faults += validate_annotations(meta.get("annotations") or {}, "metadata.annotations")
    faults += _owners(meta.get("ownerReferences") or [])
    faults += _managed_fields(meta.get("managedFields") or [])
    return faults


def _owners(owners: list[Object]) -> Faults:
    path = "metadata.ownerReferences"
    faults: Faults = []
    controller = ""
    for owner in owners:
        for field, word in (
            ("apiVersion", "version"),
            ("kind", "kind"),
            ("name", "name"),
            ("uid", "uid"),
        ):
            if not owner.get(field):
                faults.append(invalid(child(path, field), "", f"{word} must not be empty"))
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            shown = Shown(f"v1.OwnerReference{go_strings(list(map(str, owner.values())))[8:]}")
            detail = "/v1, Kind=Event is disallowed from being an owner"
            faults.append(invalid(path, shown, detail))
        if owner.get("controller"):
            this = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in'
                    f" references for {controller} and {this}"
                )
                faults.append(invalid(path, Shown("[]v1.OwnerReference"), detail))
            controller = controller or this
    return faults


def _managed_fields(entries: list[Object]) -> Faults:
    faults: Faults = []
    for index, entry in enumerate(entries):
        path = item("metadata.managedFields", index)
        operation = entry.get("operation") or ""
        if operation not in ("Apply", "Update"):
            detail = "must be `Apply` or `Update`"
            faults.append(invalid(child(path, "operation"), operation, detail))
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            detail = "must be `FieldsV1`"
            faults.append(invalid(child(path, "fieldsType"), entry["fieldsType"], detail))
        if len(entry.get("manager") or "") > 128:
            faults.append(too_long(child(path, "manager"), 128))
    return faults


def _finalizers(finalizers: list[str], *, strictly: bool) -> Faults:
    path = "metadata.finalizers"
    faults: Faults = []
    for finalizer in finalizers:
        faults += formats.faults(path, finalizer, formats.qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        faults.append(invalid(path, go_strings(list(finalizers)), detail))
    if strictly:
        detail = "name is neither a standard finalizer name nor is it fully qualified"
        faults += [
            invalid(item(path, index), finalizer, detail)
            for index, finalizer in enumerate(finalizers)
            if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS
        ]
    return faults


def _no_new_finalizers(finalizers: list[str], before: list[str]) -> Faults:
    new = sorted(set(finalizers) - set(before))
    if not new:
        return []
    detail = (
        "no new finalizers can be added if the object is being deleted, found new finalizers"
        f" {go_strings(list(new))}"
    )
    return [forbidden("metadata.finalizers", detail)]
