"""Environment variables, and references to fields of the pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    child,
    invalid,
    item,
    not_supported,
    required,
)

ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
# Fields of a pod that can be named at all, wherever.
_FIELDS: Final = frozenset(
    {*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE: Final = ("requests.hugepages-", "limits.hugepages-")
_SIZES: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_ONE_AT_A_TIME: Final = "may not have more than one field specified at a time"


def validate_env(variables: Sequence[Object], path: str) -> Faults:
    faults: Faults = []
    for index, variable in enumerate(variables):
        place, name = item(path, index), variable.get("name") or ""
        if name:
            faults += formats.faults(child(place, "name"), name, formats.env_name(name))
        else:
            faults.append(required(child(place, "name")))
        faults += _value_from(variable, child(place, "valueFrom"))
    return faults


def _value_from(variable: Object, path: str) -> Faults:
    source = variable.get("valueFrom")
    if source is None:
        return []
    given = [name for name in _SOURCES if source.get(name) is not None]
    faults: Faults = []
    if "fieldRef" in given:
        faults += validate_field_ref(source["fieldRef"], child(path, "fieldRef"), ENV_FIELDS)
    if "resourceFieldRef" in given:
        place = child(path, "resourceFieldRef")
        faults += validate_resource_ref(source["resourceFieldRef"], place, named=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in given:
            faults += _key_ref(source[name], child(path, name))
    if not given:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or"
            " `secretKeyRef`"
        )
        faults.append(invalid(path, "", detail))
    elif variable.get("value"):
        faults.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(given) > 1:
        faults.append(invalid(path, "", _ONE_AT_A_TIME))
    return faults


def _key_ref(reference: Object, path: str) -> Faults:
    name, key = reference.get("name") or "", reference.get("key") or ""
    faults = list(formats.faults(child(path, "name"), name, formats.dns_subdomain(name)))
    if not key:
        return [*faults, required(child(path, "key"))]
    return faults + list(formats.faults(child(path, "key"), key, formats.config_key(key)))


def split_subscript(field: str) -> tuple[str, str | None]:
    """`("metadata.labels", "app")` of `metadata.labels['app']`; without one, `(field, None)`."""
    if not field.endswith("']"):
        return field, None
    path, bracket, key = field[:-2].partition("['")
    return (path, key) if bracket and path else (field, None)


def validate_field_ref(reference: Object, path: str, supported: Sequence[str]) -> Faults:
    """A reference to a field of the pod, among those supported where it stands."""
    version, field = reference.get("apiVersion") or "", reference.get("fieldPath") or ""
    if not version:
        return [required(child(path, "apiVersion"))]
    if not field:
        return [required(child(path, "fieldPath"))]
    place = child(path, "fieldPath")
    where, key = split_subscript(field)
    problem = ""
    if version != "v1":
        problem = f"unsupported pod version: {version}"
    elif key is not None and where not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {field}"
    elif key is None and field not in _FIELDS and field != "spec.host":
        problem = f"field label not supported: {field}"
    if problem:
        return [invalid(place, field, f"error converting fieldPath: {problem}")]
    if key is not None:
        name = key.lower() if where == "metadata.annotations" else key
        return list(formats.faults(path, name, formats.qualified_name(name)))
    where = "spec.nodeName" if field == "spec.host" else field
    return [] if where in supported else [not_supported(place, where, supported)]


def validate_resource_ref(reference: Object, path: str, *, named: bool) -> Faults:
    """A reference to a container's resource; `named`: the container must be said."""
    resource, faults = reference.get("resource") or "", []
    if named and not reference.get("containerName"):
        faults.append(required(child(path, "containerName")))
    elif not resource:
        faults.append(required(child(path, "resource")))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE):
        faults.append(not_supported(child(path, "resource"), resource, _RESOURCES))
    return faults + _divisor(resource, reference.get("divisor"), path)


def _divisor(resource: str, divisor: str | int | float | None, path: str) -> Faults:
    if divisor is None or quantities.parse(divisor) == 0:
        return []
    text = quantities.canonical(divisor)
    kind = resource.partition(".")[2]
    if kind == "cpu":
        detail = "only divisor's values 1m and 1 are supported with the cpu resource"
        return [] if text in ("1m", "1") else [invalid(child(path, "divisor"), resource, detail)]
    if kind.startswith("hugepages-"):
        kind = "hugepages"
    names = {
        "memory": "memory",
        "ephemeral-storage": "local ephemeral storage",
        "hugepages": "hugepages",
    }
    if kind not in names or text in _SIZES:
        return []
    detail = (
        f"only divisor's values {', '.join(_SIZES)} are supported with the {names[kind]} resource"
    )
    return [invalid(child(path, "divisor"), resource, detail)]


def validate_env_from(sources: Sequence[Object], path: str) -> Faults:
    faults: Faults = []
    for index, source in enumerate(sources):
        place, prefix = item(path, index), source.get("prefix") or ""
        if prefix:
            faults += formats.faults(child(place, "prefix"), prefix, formats.env_name(prefix))
        given = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        for name in given:
            faults += _name_ref(source[name], child(place, name))
        if not given:
            detail = "must specify one of: `configMapRef` or `secretRef`"
            faults.append(invalid(path, "", detail))
        elif len(given) > 1:
            faults.append(invalid(path, "", _ONE_AT_A_TIME))
    return faults


def _name_ref(reference: Object, path: str) -> Faults:
    name, place = reference.get("name") or "", child(path, "name")
    if not name:
        return [required(place)]
    return list(formats.faults(place, name, formats.as_prefix(formats.dns_subdomain, name)))
