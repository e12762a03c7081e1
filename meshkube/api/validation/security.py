"""Security contexts of pods and containers."""

from __future__ import annotations

import re
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    duplicate,
    invalid,
    item,
    not_supported,
    required,
)
from meshkube.api.validation.paths import descending
from meshkube.api.validation.selectors import optional_one_of

_MAX_ID: Final = (1 << 31) - 1
_SYSCTL: Final = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")


def _identity(path: str, number: int | None) -> Faults:
    """A user or group number."""
    if number is None:
        return []
    return [invalid(path, number, why) for why in formats.in_range(number, 0, _MAX_ID)]


def _common(context: Object, path: str) -> Faults:
    faults: Faults = []
    for field in ("runAsUser", "runAsGroup"):
        faults += _identity(child(path, field), context.get(field))
    faults += _profile(context, path, "seccompProfile", "seccomp type")
    faults += _profile(context, path, "appArmorProfile", "AppArmor type")
    return faults


def _profile(context: Object, path: str, field: str, noun: str) -> Faults:
    profile = context.get(field)
    if profile is None:
        return []
    place, kind = child(path, field), profile.get("type") or ""
    where, name = child(place, "localhostProfile"), profile.get("localhostProfile")
    faults: Faults = []
    if not kind:
        faults.append(required(child(place, "type"), f"type is required when {field} is set"))
    elif kind not in _PROFILES:
        faults.append(not_supported(child(place, "type"), kind, _PROFILES))
    if kind == "Localhost" and name is None:
        faults.append(required(where, f"must be set when {noun} is Localhost"))
    elif kind == "Localhost" and field == "seccompProfile":
        faults += descending(where, name)
    elif kind != "Localhost" and name is not None:
        detail = f"can only be set when {noun} is Localhost"
        faults.append(invalid(where, Shown(f'"{name}"'), detail))
    return faults


def validate_container_security(context: Object, path: str, *, host_users: bool) -> Faults:
    faults = _common(context, path)
    mount = context.get("procMount")
    if mount is not None:
        place = child(path, "procMount")
        faults += optional_one_of(place, mount, ("Default", "Unmasked"))
        if host_users and mount == "Unmasked":
            faults.append(invalid(place, mount, "`hostUsers` must be false to use `Unmasked`"))
    if context.get("allowPrivilegeEscalation") is False:
        lead = "cannot set `allowPrivilegeEscalation` to false and"
        shown = Shown("core.SecurityContext")
        if context.get("privileged"):
            faults.append(invalid(path, shown, f"{lead} `privileged` to true"))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            faults.append(invalid(path, shown, f"{lead} `capabilities.Add` CAP_SYS_ADMIN"))
    return faults


def validate_pod_security(spec: Object, path: str) -> Faults:
    context = spec.get("securityContext")
    if context is None:
        return []
    faults = _identity(child(path, "fsGroup"), context.get("fsGroup")) + _common(context, path)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        faults += _identity(item(child(path, "supplementalGroups"), index), group)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        faults.append(invalid(child(path, "shareProcessNamespace"), True, detail))
    faults += _sysctls(context.get("sysctls") or [], child(path, "sysctls"))
    for field, words in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        faults += optional_one_of(child(path, field), context.get(field), words)
    return faults


def _sysctls(sysctls: list[Object], path: str) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        place, name = child(item(path, index), "name"), sysctl.get("name") or ""
        if not name:
            faults.append(required(place))
        elif len(name) > 253 or not re.fullmatch(_SYSCTL, name):
            detail = f"must have at most 253 characters and match regex ^{_SYSCTL}$"
            faults.append(invalid(place, name, detail))
        elif name in seen:
            faults.append(duplicate(place, name))
        seen.add(name)
    return faults
