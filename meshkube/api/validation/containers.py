"""Containers of pods: regular, init and ephemeral ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.environment import validate_env, validate_env_from
from meshkube.api.validation.faults import (
    Faults,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    not_found,
    not_supported,
    required,
)
from meshkube.api.validation.paths import descending, no_backsteps
from meshkube.api.validation.probes import validate_lifecycle, validate_probes
from meshkube.api.validation.resources import validate_resources
from meshkube.api.validation.security import validate_container_security
from meshkube.api.validation.selectors import one_of
from meshkube.api.validation.volumes import PULL_POLICIES

PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_EPHEMERAL_MAY_NOT: Final = (
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


@dataclass(frozen=True, slots=True)
class PodContext:
    """What of its pod a container depends on."""

    volumes: dict[str, Object]
    """The sound volumes by name."""
    claims: frozenset[str]
    grace: int | None
    restart_policy: str
    host_users: bool


def validate_containers(containers: list[Object], path: str, pod: PodContext) -> Faults:
    if not containers:
        return [required(path)]
    faults: Faults = []
    names: set[str] = set()
    for index, container in enumerate(containers):
        place, name = item(path, index), container.get("name") or ""
        faults += _common(container, place, pod)
        if name in names:
            faults.append(duplicate(child(place, "name"), name))
        names.add(name)
        faults += _running(container, place, pod)
        if container.get("restartPolicy") is not None:
            detail = "may not be set for non-init containers"
            faults.append(forbidden(child(place, "restartPolicy"), detail))
    return faults + _host_port_conflicts(containers, path)


def validate_init_containers(
    containers: list[Object], path: str, pod: PodContext, others: list[Object]
) -> Faults:
    """Init containers; one with `restartPolicy: Always` is a sidecar and may be probed."""
    faults: Faults = []
    names = {each.get("name") or "" for each in others}
    for index, container in enumerate(containers):
        place, name = item(path, index), container.get("name") or ""
        faults += _common(container, place, pod)
        policy = container.get("restartPolicy")
        if policy is not None and policy != "Always":
            faults.append(not_supported(child(place, "restartPolicy"), policy, ("Always",)))
        if name in names:
            faults.append(duplicate(child(place, "name"), name))
        elif name:
            names.add(name)
        faults += _host_port_conflicts([container], path)
        if policy == "Always":
            faults += _running(container, place, pod)
            continue
        detail = "may not be set for init containers without restartPolicy=Always"
        for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(field) is not None:
                faults.append(forbidden(child(place, field), detail))
    return faults


def validate_ephemeral_containers(
    containers: list[Object], path: str, pod: PodContext, others: list[Object]
) -> Faults:
    faults: Faults = []
    targets = {each.get("name") or "" for each in others}
    names = set(targets)
    detail = "cannot be set for an Ephemeral Container"
    for index, container in enumerate(containers):
        place, name = item(path, index), container.get("name") or ""
        faults += _common(container, place, pod) + trimmed_image(container, place)
        if name in names:
            faults.append(duplicate(child(place, "name"), name))
        names.add(name)
        target = container.get("targetContainerName") or ""
        if target and target not in targets:
            faults.append(not_found(child(place, "targetContainerName"), target))
        for field in _EPHEMERAL_MAY_NOT:
            if container.get(field):
                faults.append(forbidden(child(place, field), detail))
        if any((container.get("resources") or {}).values()):
            faults.append(forbidden(child(place, "resources"), detail))
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    where = child(item(child(place, "volumeMounts"), number), field)
                    faults.append(forbidden(where, detail))
    return faults


def trimmed_image(container: Object, path: str) -> Faults:
    """Of pods, not of templates: no white space around the image."""
    image = container.get("image") or ""
    if image == image.strip():
        return []
    return [invalid(child(path, "image"), image, "must not have leading or trailing whitespace")]


def _common(container: Object, path: str, pod: PodContext) -> Faults:
    faults: Faults = []
    name = container.get("name") or ""
    if name:
        faults += formats.faults(child(path, "name"), name, formats.dns_label(name))
    else:
        faults.append(required(child(path, "name")))
    if not container.get("image"):
        faults.append(required(child(path, "image")))
    policy = container.get("terminationMessagePolicy")
    faults += one_of(child(path, "terminationMessagePolicy"), policy, _MESSAGE_POLICIES)
    faults += _ports(container.get("ports") or [], child(path, "ports"))
    faults += validate_env(container.get("env") or [], child(path, "env"))
    faults += validate_env_from(container.get("envFrom") or [], child(path, "envFrom"))
    faults += _mounts(container, child(path, "volumeMounts"), pod)
    faults += _devices(container, child(path, "volumeDevices"), pod)
    pull = container.get("imagePullPolicy")
    faults += one_of(child(path, "imagePullPolicy"), pull, PULL_POLICIES)
    resources = container.get("resources") or {}
    faults += validate_resources(resources, child(path, "resources"), pod.claims)
    faults += _resize_policies(
        container.get("resizePolicy") or [], child(path, "resizePolicy"), pod
    )
    security = container.get("securityContext") or {}
    place = child(path, "securityContext")
    return faults + validate_container_security(security, place, host_users=pod.host_users)


def _running(container: Object, path: str, pod: PodContext) -> Faults:
    """What only containers that keep running have."""
    faults: Faults = []
    if container.get("lifecycle") is not None:
        place = child(path, "lifecycle")
        faults += validate_lifecycle(container["lifecycle"], place, pod.grace)
    return faults + validate_probes(container, path, pod.grace)


def _ports(ports: list[Object], path: str) -> Faults:
    faults: Faults = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        place, name = item(path, index), port.get("name") or ""
        reasons = formats.port_name(name) if name else []
        faults += formats.faults(child(place, "name"), name, reasons)
        if name and not reasons:
            if name in names:
                faults.append(duplicate(child(place, "name"), name))
            names.add(name)
        number = port.get("containerPort") or 0
        if number == 0:
            faults.append(required(child(place, "containerPort")))
        else:
            where = child(place, "containerPort")
            faults += [invalid(where, number, why) for why in formats.port_number(number)]
        number = port.get("hostPort") or 0
        if number:
            where = child(place, "hostPort")
            faults += [invalid(where, number, why) for why in formats.port_number(number)]
        faults += one_of(child(place, "protocol"), port.get("protocol"), PROTOCOLS)
    return faults


def _host_port_conflicts(containers: list[Object], path: str) -> Faults:
    faults: Faults = []
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in taken:
                place = item(child(item(path, index), "ports"), number)
                faults.append(duplicate(child(place, "hostPort"), key))
            taken.add(key)
    return faults


def _mounts(container: Object, path: str, pod: PodContext) -> Faults:
    faults: Faults = []
    devices = container.get("volumeDevices") or ()
    names = {device.get("name") for device in devices}
    paths = {device.get("devicePath") for device in devices}
    points: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place = item(path, index)
        name, point = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            faults.append(required(child(place, "name")))
        if name not in pod.volumes:
            faults.append(not_found(child(place, "name"), name))
        if not point:
            faults.append(required(child(place, "mountPath")))
        if point in points:
            faults.append(invalid(child(place, "mountPath"), point, "must be unique"))
        points.add(point)
        if name in names:
            detail = "must not already exist in volumeDevices"
            faults.append(invalid(child(place, "name"), name, detail))
        if point in paths:
            detail = "must not already exist as a path in volumeDevices"
            faults.append(invalid(child(place, "mountPath"), point, detail))
        faults += _mount_options(mount, path, place, container)
    return faults


def _mount_options(mount: Object, path: str, place: str, container: Object) -> Faults:
    """Kubernetes names some of these without the mount's index; so do we."""
    faults: Faults = []
    sub, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
    if sub:
        faults += descending(child(path, "subPath"), sub)
    if expression:
        if sub:
            detail = "subPathExpr and subPath are mutually exclusive"
            faults.append(invalid(child(place, "subPathExpr"), expression, detail))
        faults += descending(child(path, "subPathExpr"), expression)
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        where, words = child(path, "mountPropagation"), ("Bidirectional", "HostToContainer", "None")
        if propagation not in words:
            faults.append(not_supported(where, propagation, words))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            faults.append(forbidden(where, detail))
    return faults + _recursive_read_only(mount, child(path, "recursiveReadOnly"))


def _recursive_read_only(mount: Object, path: str) -> Faults:
    mode, faults = mount.get("recursiveReadOnly"), []
    if mode in (None, "Disabled"):
        return []
    if mode not in ("Enabled", "IfPossible"):
        return [not_supported(path, mode, ("Disabled", "Enabled", "IfPossible"))]
    if not mount.get("readOnly"):
        faults.append(forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        detail = "may only be specified when mountPropagation is None or not specified"
        faults.append(forbidden(path, detail))
    return faults


def _devices(container: Object, path: str, pod: PodContext) -> Faults:
    faults: Faults = []
    names: set[str] = set()
    points: set[str] = set()
    for index, device in enumerate(container.get("volumeDevices") or ()):
        place = item(path, index)
        name, point = device.get("name") or "", device.get("devicePath") or ""
        volume = pod.volumes.get(name)
        if not name:
            faults.append(required(child(place, "name")))
        if name in names:
            faults.append(invalid(child(place, "name"), name, "must be unique"))
        if volume is None:
            faults.append(not_found(child(place, "name"), name))
        elif not volume.get("persistentVolumeClaim") and not volume.get("ephemeral"):
            detail = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block"
                " mode"
            )
            faults.append(invalid(child(place, "name"), name, detail))
        if not point:
            faults.append(required(child(place, "devicePath")))
        if point in points:
            faults.append(invalid(child(place, "devicePath"), point, "must be unique"))
        if no_backsteps("", point):
            detail = "can not contain backsteps ('..')"
            faults.append(invalid(child(place, "devicePath"), point, detail))
        names.add(name)
        points.add(point)
    return faults


def _resize_policies(policies: list[Object], path: str, pod: PodContext) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            faults.append(duplicate(item(path, index), name))
        seen.add(name)
        faults += one_of(path, name, ("cpu", "memory"))
        faults += one_of(path, restart, ("NotRequired", "RestartContainer"))
        if pod.restart_policy == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            faults.append(invalid(path, restart, detail))
    return faults
