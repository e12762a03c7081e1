"""PersistentVolumes, claims on them, StorageClasses, and what CSI drivers say of themselves."""

from __future__ import annotations

import posixpath
from typing import Any, Final

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    Shown,
    at,
    child,
    duplicate,
    forbidden,
    go_strings,
    invalid,
    item,
    not_supported,
    required,
    too_long,
)
from meshkube.api.validation.paths import no_backsteps
from meshkube.api.validation.scheduling import validate_node_selector
from meshkube.api.validation.selectors import validate_label_selector
from meshkube.api.validation.volumes import PERSISTENT_SOURCES

_ACCESS: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_MODES: Final = ("Block", "Filesystem")
_RECLAIM: Final = ("Delete", "Recycle", "Retain")
_BINDING: Final = ("Immediate", "WaitForFirstConsumer")
_SECRETS: Final = (
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
)
_SOURCES: Final = frozenset({*PERSISTENT_SOURCES, "local", "csi"})


def validate_volume(volume: Object) -> Faults:
    spec = volume.get("spec") or {}
    return _volume_spec(spec, "spec")


def _volume_spec(spec: Object, path: str) -> Faults:
    modes = spec.get("accessModes") or []
    faults = _access(modes, child(path, "accessModes"))
    if not modes:
        faults.append(required(child(path, "accessModes")))
    faults += _capacity(spec.get("capacity") or {}, child(path, "capacity"))
    policy = spec.get("persistentVolumeReclaimPolicy") or ""
    if policy and policy not in _RECLAIM:
        place = child(path, "persistentVolumeReclaimPolicy")
        faults.append(not_supported(place, policy, _RECLAIM))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        faults += _node_affinity(affinity, child(path, "nodeAffinity"))
    return faults + _source(spec, path) + _classes(spec, path)


def _access(modes: list[str], path: str) -> Faults:
    faults: Faults = [not_supported(path, m, _ACCESS) for m in modes if m not in _ACCESS]
    others = [mode for mode in modes if mode in _ACCESS and mode != "ReadWriteOncePod"]
    if "ReadWriteOncePod" in modes and others:
        detail = "may not use ReadWriteOncePod with other access modes"
        faults.append(forbidden(path, detail))
    return faults


def _capacity(capacity: Object, path: str) -> Faults:
    faults: Faults = [] if capacity else [required(path)]
    if "storage" not in capacity or len(capacity) > 1:
        faults.append(not_supported(path, Shown("core.ResourceList"), ("storage",)))
    for name, amount in capacity.items():
        place, number = at(path, name), quantities.value(amount)
        if number < 0:
            faults.append(invalid(place, number, "must be a valid resource quantity"))
        faults += _positive(place, amount)
    return faults


def _positive(path: str, amount: Any) -> Faults:
    if quantities.parse(amount) > 0:
        return []
    return [invalid(path, quantities.canonical(amount), "must be greater than zero")]


def _node_affinity(affinity: Object, path: str) -> Faults:
    if affinity.get("required") is None:
        return [required(child(path, "required"), "must specify required node constraints")]
    return validate_node_selector(affinity["required"], child(path, "required"))


def _source(spec: Object, path: str) -> Faults:
    given = [name for name in spec if name in _SOURCES and spec[name] is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    first = given[0]
    faults = _SOURCE.get(first, PERSISTENT_SOURCES.get(first, _nothing))(
        spec[first], child(path, first)
    )
    detail = "may not specify more than 1 volume type"
    faults = [*faults, *(forbidden(child(path, name), detail) for name in given[1:])]
    if "local" in given and spec.get("nodeAffinity") is None:
        place = child(path, "nodeAffinity")
        faults.append(required(place, "Local volume requires node affinity"))
    host, recycled = spec.get("hostPath"), spec.get("persistentVolumeReclaimPolicy") == "Recycle"
    if host and recycled and posixpath.normpath(host.get("path") or "") == "/":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        faults.append(forbidden(child(path, "persistentVolumeReclaimPolicy"), detail))
    return faults


def _nothing(source: Object, path: str) -> Faults:
    return []


def _local(source: Object, path: str) -> Faults:
    where, place = source.get("path") or "", child(path, "path")
    return no_backsteps(place, where) if where else [required(place)]


def _csi(source: Object, path: str) -> Faults:
    faults = driver_name(child(path, "driver"), source.get("driver") or "")
    if not source.get("volumeHandle"):
        faults.append(required(child(path, "volumeHandle")))
    for name in _SECRETS:
        reference = source.get(name)
        if reference is not None:
            faults += _secret(reference, child(path, name))
    return faults


def _secret(reference: Object, path: str) -> Faults:
    faults: Faults = []
    for field, check in (("name", formats.dns_subdomain), ("namespace", formats.dns_label)):
        value, place = reference.get(field) or "", child(path, field)
        faults += formats.faults(place, value, check(value)) if value else [required(place)]
    return faults


_SOURCE: Final = {"local": _local, "csi": _csi}


def driver_name(path: str, name: str) -> Faults:
    """The name of a CSI driver."""
    faults: Faults = [] if name else [required(path)]
    if len(name.encode()) > 63:
        faults.append(too_long(path, 63))
    return faults + list(formats.faults(path, name, formats.dns_subdomain(name.lower())))


def _classes(spec: Object, path: str) -> Faults:
    class_, mode = spec.get("storageClassName") or "", spec.get("volumeMode")
    faults: Faults = []
    if class_:
        place = child(path, "storageClassName")
        faults += formats.faults(place, class_, formats.dns_subdomain(class_))
    if mode is not None and mode not in _MODES:
        faults.append(not_supported(child(path, "volumeMode"), mode, _MODES))
    return faults


def validate_volume_update(volume: Object, old: Object) -> Faults:
    faults = validate_volume(volume)
    now, was = (each.get("spec") or {} for each in (volume, old))
    if any(now.get(name) != was.get(name) for name in _SOURCES):
        detail = "spec.persistentvolumesource is immutable after creation"
        faults.append(forbidden("spec.persistentvolumesource", detail))
    if now.get("volumeMode") != was.get("volumeMode"):
        faults.append(invalid("volumeMode", now.get("volumeMode"), IMMUTABLE))
    if was.get("nodeAffinity") is not None and now.get("nodeAffinity") != was["nodeAffinity"]:
        detail = f"{IMMUTABLE}, except for updating from beta label to GA"
        told = Shown("core.VolumeNodeAffinity") if now.get("nodeAffinity") else None
        faults.append(invalid("nodeAffinity", told, detail))
    return faults


def validate_claim(claim: Object) -> Faults:
    spec = claim.get("spec") or {}
    modes, faults = (
        spec.get("accessModes") or [],
        validate_label_selector(spec.get("selector"), "spec.selector"),
    )
    if not modes:
        faults.append(required("spec.accessModes", "at least 1 access mode is required"))
    faults += _access(modes, "spec.accessModes")
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    place = "spec.resources[storage]"
    faults += [required(place)] if asked is None else _positive(place, asked)
    return faults + _classes(spec, "spec") + _data_sources(spec)


def _data_sources(spec: Object) -> Faults:
    old, new = spec.get("dataSource"), spec.get("dataSourceRef")
    faults: Faults = []
    for field, source in (("dataSource", old), ("dataSourceRef", new)):
        if source is not None:
            faults += _data_source(source, f"spec.{field}")
    elsewhere = bool((new or {}).get("namespace"))
    if elsewhere and old is not None:
        detail = "may not be specified when dataSourceRef.namespace is specified"
        faults.append(invalid("spec", "spec.dataSource", detail))
    elif old is not None and new is not None and _reference(old) != _reference(new):
        faults.append(invalid("spec", "spec.dataSource", "must match dataSourceRef"))
    return faults


def _reference(source: Object) -> list[Any]:
    return [source.get(field) or None for field in ("apiGroup", "kind", "name")]


def _data_source(source: Object, path: str) -> Faults:
    fields = ("name", "kind")
    faults: Faults = [required(child(path, f)) for f in fields if not source.get(f)]
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind != "PersistentVolumeClaim":
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        faults.append(invalid(path, kind, detail))
    if group:
        faults += formats.faults(child(path, "apiGroup"), group, formats.dns_subdomain(group))
    space = source.get("namespace") or ""
    if space:
        faults += formats.faults(child(path, "namespace"), space, formats.dns_label(space))
    return faults


def validate_claim_update(claim: Object, old: Object) -> Faults:
    faults = validate_claim(claim)
    now, was = (_comparable(each, old) for each in (claim, old))
    if not was.get("volumeName"):
        was["volumeName"] = now.get("volumeName")
        now.setdefault("volumeName", None)
    if now != was:
        detail = (
            "spec is immutable after creation except resources.requests and"
            " volumeAttributesClassName for bound claims"
        )
        faults.append(forbidden("spec", detail))
    faults += _shrinks(claim, old)
    mode = (claim.get("spec") or {}).get("volumeMode")
    if mode != (old.get("spec") or {}).get("volumeMode"):
        faults.append(invalid("volumeMode", mode, IMMUTABLE))
    return faults


def _comparable(claim: Object, old: Object) -> Object:
    """What of a claim may not change: of a bound one all but its size and attributes."""
    spec = dict(claim.get("spec") or {})
    if (old.get("status") or {}).get("phase") == "Bound":
        spec.pop("volumeAttributesClassName", None)
        spec["resources"] = {**(spec.get("resources") or {}), "requests": None}
    return spec


def _shrinks(claim: Object, old: Object) -> Faults:
    def size(of: Object) -> Any:
        return (((of.get("spec") or {}).get("resources") or {}).get("requests") or {}).get(
            "storage"
        ) or "0"

    now, was = size(claim), size(old)
    has = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
    if quantities.compare(now, was) < 0 and quantities.compare(now, has) <= 0:
        path = "spec.resources.requests.storage"
        return [forbidden(path, "field can not be less than status.capacity")]
    return []


def validate_storage_class(class_: Object) -> Faults:
    provisioner = class_.get("provisioner") or ""
    faults: Faults = []
    if provisioner:
        reasons = formats.qualified_name(provisioner.lower())
        faults += formats.faults("provisioner", provisioner.lower(), reasons)
    else:
        faults.append(required("provisioner"))
    if "" in (class_.get("parameters") or {}):
        faults.append(invalid("parameters", "", "field can not be empty."))
    policy, binding = class_.get("reclaimPolicy") or "", class_.get("volumeBindingMode")
    if policy and policy not in ("Delete", "Retain"):
        faults.append(not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    if binding not in _BINDING:
        faults.append(not_supported("volumeBindingMode", binding, _BINDING))
    return faults


def validate_storage_class_update(class_: Object, old: Object) -> Faults:
    faults = validate_storage_class(class_)
    for field in ("parameters", "provisioner", "reclaimPolicy"):
        if (class_.get(field) or None) != (old.get(field) or None):
            faults.append(forbidden(field, f"updates to {field} are forbidden."))
    binding = class_.get("volumeBindingMode")
    if binding != old.get("volumeBindingMode"):
        faults.append(invalid("volumeBindingMode", binding, IMMUTABLE))
    return faults


def validate_attachment(attachment: Object) -> Faults:
    spec, path = attachment.get("spec") or {}, "spec.source"
    attacher, source = spec.get("attacher") or "", spec.get("source") or {}
    faults = driver_name("spec.attacher", attacher)
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if (name is None) == (inline is None):
        detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        faults.append(required(path, detail) if name is None else forbidden(path, detail))
    elif name is not None and not name:
        detail = "must specify non empty persistentVolumeName"
        faults.append(required(f"{path}.persistentVolumeName", detail))
    if name is not None:
        place = f"{path}.persistentVolumeName"
        faults += formats.faults(place, name, formats.dns_subdomain(name))
    node = spec.get("nodeName") or ""
    return faults + list(formats.faults("spec.nodeName", node, formats.dns_subdomain(node)))


def validate_attachment_update(attachment: Object, old: Object) -> Faults:
    if attachment.get("spec") == old.get("spec"):
        return []
    return [invalid("spec", Shown("storage.VolumeAttachmentSpec"), IMMUTABLE)]


_GROUP_POLICIES: Final = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES: Final = ("Persistent", "Ephemeral")


def validate_csi_driver(driver: Object) -> Faults:
    spec = driver.get("spec") or {}
    faults: Faults = []
    policy = spec.get("fsGroupPolicy")
    if policy not in _GROUP_POLICIES:
        faults.append(not_supported("spec.fsGroupPolicy", policy, _GROUP_POLICIES))
    audiences: set[str] = set()
    for index, token in enumerate(spec.get("tokenRequests") or ()):
        path, audience = item("spec.tokenRequests", index), token.get("audience") or ""
        if audience in audiences:
            faults.append(duplicate(child(path, "audience"), audience))
        audiences.add(audience)
        seconds = token.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            detail = "may not specify a duration less than 10 minutes"
            faults.append(invalid(child(path, "expirationSeconds"), seconds, detail))
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _LIFECYCLES:
            faults.append(not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLES))
    return faults


def validate_csi_driver_update(driver: Object, old: Object) -> Faults:
    faults = validate_csi_driver(driver)
    now, was = (each.get("spec") or {} for each in (driver, old))
    if now.get("attachRequired") != was.get("attachRequired"):
        faults.append(invalid("spec.attachedRequired", now.get("attachRequired"), IMMUTABLE))
    modes = now.get("volumeLifecycleModes") or []
    if modes != (was.get("volumeLifecycleModes") or []):
        told = Shown(go_strings(modes).replace("[]string", "[]storage.VolumeLifecycleMode"))
        faults.append(invalid("spec.volumeLifecycleModes", told, IMMUTABLE))
    return faults


def validate_csi_node(node: Object) -> Faults:
    faults: Faults = []
    names: set[str] = set()
    for index, driver in enumerate((node.get("spec") or {}).get("drivers") or ()):
        path, name = item("spec.drivers", index), driver.get("name") or ""
        faults += driver_name(child(path, "name"), name)
        known = driver.get("nodeID") or ""
        if not known:
            faults.append(required(child(path, "nodeID")))
        if len(known.encode()) > 256:
            faults.append(invalid(child(path, "nodeID"), known, "must be 256 characters or less"))
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            faults.append(invalid(child(path, "allocatable.count"), count, NOT_NEGATIVE))
        if name in names:
            faults.append(duplicate(child(path, "name"), name))
        names.add(name)
        faults += _topology(driver.get("topologyKeys") or [], path)
    return faults


def _topology(keys: list[str], path: str) -> Faults:
    faults: Faults = []
    for index, key in enumerate(keys):
        if not key:
            faults.append(required(path))
        if key in keys[:index]:
            faults.append(duplicate(path, key))
        faults += formats.faults(path, key, formats.qualified_name(key))
    return faults


def validate_capacity(capacity: Object) -> Faults:
    class_ = capacity.get("storageClassName") or ""
    reasons = formats.dns_subdomain(class_)
    faults = list(formats.faults("storageClassName", class_, reasons))
    for field in ("capacity", "maximumVolumeSize"):
        amount = capacity.get(field)
        if amount is not None and quantities.parse(amount) < 0:
            faults.append(invalid(field, quantities.canonical(amount), NOT_NEGATIVE))
    return faults + validate_label_selector(capacity.get("nodeTopology"), "nodeTopology")


def validate_capacity_update(capacity: Object, old: Object) -> Faults:
    faults = validate_capacity(capacity)
    if capacity.get("nodeTopology") != old.get("nodeTopology"):
        told = Shown("v1.LabelSelector") if capacity.get("nodeTopology") else None
        faults.append(invalid("nodeTopology", told, IMMUTABLE))
    class_ = capacity.get("storageClassName") or ""
    if class_ != (old.get("storageClassName") or ""):
        faults.append(invalid("storageClassName", class_, IMMUTABLE))
    return faults
