"""APIServices: which server answers for a group and version."""

from __future__ import annotations

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import Faults, invalid, required

_LARGEST_GROUP, _LARGEST_VERSION = 20_000, 1_000


def validate_api_service(api: Object) -> Faults:
    spec = api.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    faults: Faults = []
    if meta.name(api) != f"{version}.{group}":
        why = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
        faults.append(invalid("metadata.name", meta.name(api), why))
    if group:
        faults += formats.faults("spec.group", group, formats.dns_subdomain(group))
    faults += formats.faults("spec.version", version, formats.dns_label(version))
    for field, largest in (
        ("groupPriorityMinimum", _LARGEST_GROUP),
        ("versionPriority", _LARGEST_VERSION),
    ):
        number = spec.get(field) or 0
        if not 0 < number <= largest:
            why = f"must be positive and less than {largest}"
            faults.append(invalid(f"spec.{field}", number, why))
    return faults + _server(spec)


def _server(spec: Object) -> Faults:
    service, faults = spec.get("service"), Faults()
    skips, bundle = bool(spec.get("insecureSkipTLSVerify")), spec.get("caBundle")
    if service is None:
        if skips:
            why = "local APIServices may not have insecureSkipTLSVerify"
            faults.append(invalid("spec.insecureSkipTLSVerify", skips, why))
        return faults
    for field in ("namespace", "name"):
        if not service.get(field):
            faults.append(required(f"spec.service.{field}"))
    if skips and bundle:
        why = "may not be true if caBundle is present"
        faults.append(invalid("spec.insecureSkipTLSVerify", skips, why))
    return faults
