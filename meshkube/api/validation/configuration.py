"""ConfigMaps and Secrets."""

from __future__ import annotations

import base64
import json
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    at,
    forbidden,
    invalid,
    required,
    too_long,
)

MAX_SIZE: Final = 1 << 20
"""Bytes of all values together."""

_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT: Final = "kubernetes.io/service-account.name"


def validate_config_map(config_map: Object) -> Faults:
    text, binary = config_map.get("data") or {}, config_map.get("binaryData") or {}
    faults: Faults = []
    for key in text:
        place = at("data", key)
        faults += formats.faults(place, key, formats.config_key(key))
        if key in binary:
            faults.append(invalid(place, key, "duplicate of key present in binaryData"))
    for key in binary:
        faults += formats.faults(at("binaryData", key), key, formats.config_key(key))
    size = sum(len(value.encode()) for value in text.values())
    size += sum(decoded_size(value) for value in binary.values())
    if size > MAX_SIZE:
        faults.append(too_long("", MAX_SIZE))
    return faults


def validate_config_map_update(config_map: Object, old: Object) -> Faults:
    faults = _immutable(config_map, old, ("data", "binaryData"))
    return faults + validate_config_map(config_map)


def validate_secret(secret: Object) -> Faults:
    """`stringData` is already part of `data`."""
    data: dict[str, str] = secret.get("data") or {}
    faults: Faults = []
    for key in data:
        faults += formats.faults(at("data", key), key, formats.config_key(key))
    if sum(map(decoded_size, data.values())) > MAX_SIZE:
        faults.append(too_long("data", MAX_SIZE))
    return faults + _by_type(secret, data)


def validate_secret_update(secret: Object, old: Object) -> Faults:
    kind, was = secret.get("type") or "", old.get("type") or ""
    faults = [] if kind == was else [invalid("type", kind, IMMUTABLE)]
    return faults + _immutable(secret, old, ("data",)) + validate_secret(secret)


def decoded_size(text: str) -> int:
    """How many bytes base64 text stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")


def _by_type(secret: Object, data: dict[str, str]) -> Faults:
    kind = secret.get("type") or ""
    if kind == "kubernetes.io/service-account-token":
        notes = (secret.get("metadata") or {}).get("annotations") or {}
        return [] if notes.get(_ACCOUNT) else [required(at("metadata.annotations", _ACCOUNT))]
    if kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        return [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        return [required("data[ssh-privatekey]")]
    needed = _NEEDED.get(kind, ())
    faults = [required(at("data", key)) for key in needed if key not in data]
    if not faults and "docker" in kind:
        faults += _docker_config(at("data", needed[0]), data[needed[0]])
    return faults


def _docker_config(path: str, value: str) -> Faults:
    try:
        problem = "" if isinstance(json.loads(base64.b64decode(value)), dict) else "not an object"
    except ValueError as error:
        problem = str(error)
    return [invalid(path, "<secret contents redacted>", problem)] if problem else []


def _immutable(obj: Object, old: Object, fields: tuple[str, ...]) -> Faults:
    if not old.get("immutable"):
        return []
    changed = [field for field in fields if (obj.get(field) or {}) != (old.get(field) or {})]
    if not obj.get("immutable"):
        changed.insert(0, "immutable")
    detail = "field is immutable when `immutable` is set"
    return [forbidden(field, detail) for field in changed]
