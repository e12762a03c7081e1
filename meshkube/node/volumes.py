"""What a pod's volumes hold. Pure: which files, with which content and mode; which host paths.

The shell (`mounts.py`) puts them on disk. Source: Kubernetes documentation, "Volumes"; the layout
of a directory that is replaced in one step is the kubelet's: `key -> ..data/key`, `..data ->
..<time>`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshkube.api.types import Object
from meshkube.node import env
from meshkube.node.env import ConfigError, Context, SourceKind, contents
from meshkube.node.view import all_containers

DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600
# What messages call a source.
_WORDS: dict[SourceKind, str] = {"ConfigMap": "config", "Secret": "secret"}


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    mode: int
    owner: int | None = None
    """The user whose it is; None: root's."""


Files = dict[str, File]
"""By path inside the volume."""


class VolumeError(Exception):
    """Why a volume cannot be mounted: the message of a `FailedMount` Event."""


def references(pod: Object) -> set[tuple[SourceKind, str]]:
    """Every ConfigMap and Secret the pod's volumes and environment name."""
    found: set[tuple[SourceKind, str]] = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            if "configMap" in source:
                found.add(("ConfigMap", source["configMap"].get("name", "")))
            if "secret" in source:
                secret = source["secret"]
                found.add(("Secret", secret.get("secretName") or secret.get("name", "")))
    for container in all_containers(pod):
        found |= _env_references(container)
    return {reference for reference in found if reference[1]}


def _env_references(container: Object) -> set[tuple[SourceKind, str]]:
    found: set[tuple[SourceKind, str]] = set()
    for source in container.get("envFrom") or ():
        if "configMapRef" in source:
            found.add(("ConfigMap", source["configMapRef"].get("name", "")))
        if "secretRef" in source:
            found.add(("Secret", source["secretRef"].get("name", "")))
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        if "configMapKeyRef" in source:
            found.add(("ConfigMap", source["configMapKeyRef"].get("name", "")))
        if "secretKeyRef" in source:
            found.add(("Secret", source["secretKeyRef"].get("name", "")))
    return found


def is_projection(volume: Object) -> bool:
    """Whether the node writes its content out of API objects."""
    return any(kind in volume for kind in ("configMap", "secret", "downwardAPI", "projected"))


def files_of(volume: Object, context: Context) -> Files:
    """The content of a projection. Raises `VolumeError`."""
    try:
        if "configMap" in volume:
            return _keys("ConfigMap", volume["configMap"], context)
        if "secret" in volume:
            return _keys("Secret", volume["secret"], context)
        if "downwardAPI" in volume:
            return _downward(volume["downwardAPI"], context)
        return _projected(volume["projected"], context)
    except ConfigError as error:
        raise VolumeError(str(error)) from error


def _projected(source: Object, context: Context) -> Files:
    mode = source.get("defaultMode", DEFAULT_MODE)
    files: Files = {}
    for part in source.get("sources") or ():
        if "configMap" in part:
            files |= _keys("ConfigMap", {"defaultMode": mode, **part["configMap"]}, context)
        elif "secret" in part:
            files |= _keys("Secret", {"defaultMode": mode, **part["secret"]}, context)
        elif "downwardAPI" in part:
            files |= _downward({"defaultMode": mode, **part["downwardAPI"]}, context)
        elif "serviceAccountToken" in part:
            files |= _token(part["serviceAccountToken"], mode, context)
        else:
            raise VolumeError(f"projected sources of kind {', '.join(part)} are not supported")
    return files


def _token(source: Object, mode: int, context: Context) -> Files:
    key = token_want(source)
    if key not in context.tokens:
        raise VolumeError("the service account token has not been fetched yet")
    content, path = context.tokens[key].encode(), _inside(source["path"])
    outer, user = context.pod["spec"].get("securityContext") or {}, only_user(context.pod)
    if user is None and outer.get("fsGroup") is None:
        return {path: File(content, mode)}
    # Whoever has to read it can be told from everybody else.
    return {path: File(content, 0o600, user)}


def only_user(pod: Object) -> int | None:
    """The user id that all containers run as; None where they differ, or one names none."""
    outer = (pod["spec"].get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", outer)
        for container in all_containers(pod)
    }
    return users.pop() if len(users) == 1 else None


def token_want(source: Object) -> tuple[str, int]:
    """Which token a `serviceAccountToken` source shows: audience (empty: the API) and seconds."""
    seconds = int(source.get("expirationSeconds") or TOKEN_SECONDS)
    return source.get("audience") or "", seconds


def _keys(kind: SourceKind, source: Object, context: Context) -> Files:
    name = source.get("secretName") or source.get("name", "")
    optional, mode = bool(source.get("optional")), source.get("defaultMode", DEFAULT_MODE)
    obj = context.lookup(kind, name)
    if obj is None:
        if optional:
            return {}
        raise VolumeError(f'{kind.lower()} "{name}" not found')
    data = contents(kind, obj)
    if not source.get("items"):
        return {key: File(content, mode) for key, content in data.items()}
    files: Files = {}
    for item in source["items"]:
        if item["key"] not in data:
            if optional:
                continue
            raise VolumeError(f"references non-existent {_WORDS[kind]} key: {item['key']}")
        files[_inside(item["path"])] = File(data[item["key"]], _mode(item, mode))
    return files


def _downward(source: Object, context: Context) -> Files:
    mode = source.get("defaultMode", DEFAULT_MODE)
    files: Files = {}
    for item in source.get("items") or ():
        if "fieldRef" in item:
            text = env.field_value(item["fieldRef"].get("fieldPath", ""), context)
        else:
            text = env.resource_value(item["resourceFieldRef"], {}, context)
        files[_inside(item["path"])] = File(text.encode(), _mode(item, mode))
    return files


def _mode(item: Mapping[str, Any], default: int) -> int:
    mode = item.get("mode")
    return default if mode is None else int(mode)


def _inside(path: str) -> str:
    clean = posixpath.normpath(path)
    if clean.startswith(("/", "..")):
        raise VolumeError(f"path {path!r} is not inside the volume")
    return clean
