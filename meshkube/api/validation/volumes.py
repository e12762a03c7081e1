"""Volumes of pods: each has a unique name and exactly one source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.environment import (
    VOLUME_FIELDS,
    validate_field_ref,
    validate_resource_ref,
)
from meshkube.api.validation.faults import (
    Faults,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
)
from meshkube.api.validation.paths import file_mode, key_to_path, no_backsteps, not_reserved
from meshkube.api.validation.selectors import one_of

_HOST_PATHS: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_ONE: Final = "may not specify more than 1 volume type"
_CONFLICT: Final = "conflicting duplicate paths"


def validate_volumes(
    volumes: list[Object], path: str, pod_name: str
) -> tuple[Faults, dict[str, Object]]:
    """The faults, and the sound volumes by name, which mounts may refer to. The name of a
    pod template is empty."""
    faults: Faults = []
    sound: dict[str, Object] = {}
    made = {f"{pod_name}-{each.get('name')}" for each in volumes if each.get("ephemeral")}
    for index, volume in enumerate(volumes):
        place, name = item(path, index), volume.get("name") or ""
        found = _source(volume, place)
        if name:
            found += formats.faults(child(place, "name"), name, formats.dns_label(name))
        else:
            found.append(required(child(place, "name")))
        if name in sound:
            found.append(duplicate(child(place, "name"), name))
        if not found:
            sound[name] = volume
        faults += found
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if pod_name and claim in made:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            where = child(child(place, "persistentVolumeClaim"), "claimName")
            faults.append(invalid(where, claim, detail))
    return faults, sound


def _source(volume: Object, path: str) -> Faults:
    given = [name for name in _SOURCES if volume.get(name) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    first = given[0]
    faults = _SOURCES[first](volume[first], child(path, first))
    return faults + [forbidden(child(path, name), _ONE) for name in given[1:]]


def _empty_dir(source: Object, path: str) -> Faults:
    limit = source.get("sizeLimit")
    if limit is not None and quantities.parse(limit) < 0:
        detail = "SizeLimit field must be a valid resource quantity"
        return [forbidden(child(path, "sizeLimit"), detail)]
    return []


def _host_path(source: Object, path: str) -> Faults:
    where = source.get("path") or ""
    if not where:
        return [required(child(path, "path"))]
    faults = no_backsteps(child(path, "path"), where)
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATHS:
        faults.append(not_supported(child(path, "type"), kind, _HOST_PATHS))
    return faults


def _keys(name_field: str) -> Callable[[Object, str], Faults]:
    """A source that shows the keys of a ConfigMap or Secret as files."""

    def check(source: Object, path: str) -> Faults:
        faults: Faults = []
        if not source.get(name_field):
            faults.append(required(child(path, name_field)))
        faults += file_mode(child(path, "defaultMode"), source.get("defaultMode"))
        for index, entry in enumerate(source.get("items") or ()):
            faults += key_to_path(entry, item(child(path, "items"), index))
        return faults

    return check


def _downward(source: Object, path: str) -> Faults:
    faults = file_mode(child(path, "defaultMode"), source.get("defaultMode"))
    for entry in source.get("items") or ():
        faults += _downward_file(entry, path)
    return faults


def _downward_file(entry: Object, path: str) -> Faults:
    where, faults = entry.get("path") or "", []
    if not where:
        faults.append(required(child(path, "path")))
    faults += not_reserved(child(path, "path"), where)
    field, resource = entry.get("fieldRef"), entry.get("resourceFieldRef")
    if field is not None:
        faults += validate_field_ref(field, child(path, "fieldRef"), VOLUME_FIELDS)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            faults.append(invalid(path, "resource", detail))
    elif resource is not None:
        faults += validate_resource_ref(resource, child(path, "resourceFieldRef"), named=True)
    else:
        faults.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return faults + file_mode(child(path, "mode"), entry.get("mode"))


def _projected(source: Object, path: str) -> Faults:
    faults = file_mode(child(path, "defaultMode"), source.get("defaultMode"))
    taken: set[str] = set()
    for index, part in enumerate(source.get("sources") or ()):
        place = item(child(path, "sources"), index)
        given = [name for name in _PROJECTIONS if part.get(name) is not None]
        for name in given:
            faults += _PROJECTIONS[name](part[name], path, child(place, name), taken)
        if len(given) > 1:
            faults.append(forbidden(place, f"{_ONE} per source"))
    return faults


def _projected_keys(part: Object, top: str, path: str, taken: set[str]) -> Faults:
    faults: Faults = []
    name = part.get("name") or ""
    if not name:
        faults.append(required(child(path, "name")))
    for index, entry in enumerate(part.get("items") or ()):
        faults += key_to_path(entry, item(child(path, "items"), index))
        faults += _taken(entry.get("path") or "", name, top, taken)
    return faults


def _projected_downward(part: Object, top: str, path: str, taken: set[str]) -> Faults:
    faults: Faults = []
    for entry in part.get("items") or ():
        faults += _downward_file(entry, path)
        faults += _taken(entry.get("path") or "", entry.get("path") or "", top, taken)
    return faults


def _taken(where: str, shown: str, top: str, taken: set[str]) -> Faults:
    """Two projections must not write the same file."""
    if where and where in taken:
        return [invalid(top, shown, _CONFLICT)]
    taken.add(where)
    return []


def _projected_token(part: Object, top: str, path: str, taken: set[str]) -> Faults:
    faults: Faults = []
    seconds, place = part.get("expirationSeconds") or 0, child(path, "expirationSeconds")
    if seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        faults.append(invalid(place, seconds, detail))
    if seconds > 1 << 32:
        detail = "may not specify a duration larger than 2^32 seconds"
        faults.append(invalid(place, seconds, detail))
    where = part.get("path") or ""
    if not where:
        faults.append(required(child(top, "path")))
    return faults + not_reserved(child(top, "path"), where)


def _projected_bundle(part: Object, top: str, path: str, taken: set[str]) -> Faults:
    faults: Faults = []
    named, signed = part.get("name") is not None, part.get("signerName") is not None
    if not named and not signed:
        faults.append(required(path, "either name or signerName must be specified"))
    where = part.get("path") or ""
    if not where:
        faults.append(required(child(path, "path")))
    faults += not_reserved(child(path, "path"), where)
    return faults + _taken(where, where, top, taken)


_PROJECTIONS: Final = {
    "secret": _projected_keys,
    "configMap": _projected_keys,
    "downwardAPI": _projected_downward,
    "serviceAccountToken": _projected_token,
    "clusterTrustBundle": _projected_bundle,
}


def _required(*fields: str) -> Callable[[Object, str], Faults]:
    """A source of which only these fields are checked."""

    def check(source: Object, path: str) -> Faults:
        return [required(child(path, field)) for field in fields if not source.get(field)]

    return check


def _nfs(source: Object, path: str) -> Faults:
    faults = _required("server", "path")(source, path)
    where = source.get("path") or ""
    if not where.startswith("/"):
        faults.append(invalid(child(path, "path"), where, "must be an absolute path"))
    return faults


def _image(source: Object, path: str) -> Faults:
    return one_of(child(path, "pullPolicy"), source.get("pullPolicy"), PULL_POLICIES)


_SOURCES: Final[dict[str, Callable[[Object, str], Faults]]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": _required("repository"),
    "gcePersistentDisk": _required("pdName"),
    "awsElasticBlockStore": _required("volumeID"),
    "secret": _keys("secretName"),
    "nfs": _nfs,
    "iscsi": _required("targetPortal", "iqn"),
    "glusterfs": _required("endpoints", "path"),
    "flocker": _required(),
    "persistentVolumeClaim": _required("claimName"),
    "rbd": _required("monitors", "image"),
    "cinder": _required("volumeID"),
    "cephfs": _required("monitors"),
    "quobyte": _required("registry", "volume"),
    "downwardAPI": _downward,
    "fc": _required(),
    "flexVolume": _required("driver"),
    "configMap": _keys("name"),
    "azureFile": _required("secretName", "shareName"),
    "vsphereVolume": _required("volumePath"),
    "photonPersistentDisk": _required("pdID"),
    "portworxVolume": _required("volumeID"),
    "azureDisk": _required("diskName", "diskURI"),
    "storageos": _required("volumeName"),
    "projected": _projected,
    "scaleIO": _required("gateway", "system", "volumeName"),
    "csi": _required("driver"),
    "ephemeral": _required("volumeClaimTemplate"),
    "image": _image,
}
PERSISTENT_SOURCES: Final = {
    name: _SOURCES[name]
    for name in (
        "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs",
        "rbd", "quobyte", "cephfs", "iscsi", "cinder", "fc", "flexVolume", "azureFile",
        "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "scaleIO",
        "storageos",
    )
}  # fmt: skip
"""Kinds of volume that a PersistentVolume can be, too."""
