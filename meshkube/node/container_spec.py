"""From a pod's spec to what the runtime is asked for. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.env import ConfigError, expand
from meshkube.node.resources import limits_of
from meshkube.node.runtime import (
    ContainerSpec,
    HostPort,
    Image,
    Mount,
    PodRef,
    Record,
    SandboxSpec,
    Security,
)
from meshkube.node.view import is_host_network, spec_hash


def pod_ref(pod: Object) -> PodRef:
    return PodRef(meta.namespace(pod), meta.name(pod), meta.uid(pod))


def grace_period(pod: Object) -> int:
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30))


def sandbox_spec(pod: Object, attempt: int, hostname: str, handler: str = "") -> SandboxSpec:
    spec = pod["spec"]
    sysctls = (spec.get("securityContext") or {}).get("sysctls") or ()
    return SandboxSpec(
        pod=pod_ref(pod),
        attempt=attempt,
        hostname=hostname,
        grace_period=grace_period(pod),
        host_network=is_host_network(pod),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        handler=handler,
        sysctls={entry["name"]: str(entry["value"]) for entry in sysctls},
        ports=tuple(
            HostPort(
                port.get("hostIP") or "",
                int(port["hostPort"]),
                int(port["containerPort"]),
                port.get("protocol") or "TCP",
            )
            for container in [*(spec.get("initContainers") or ()), *spec["containers"]]
            for port in container.get("ports") or ()
            if port.get("hostPort")
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What had to be looked up before a container can be described."""

    image: Image
    env: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...]
    sandbox: Record
    handler: str
    memory_capacity: int
    target: str = ""
    """The id of the container that `targetContainerName` names."""


def container_spec(
    pod: Object, container: Object, attempt: int, backoff: float, resolved: Resolved
) -> ContainerSpec:
    """Raises `ConfigError`."""
    spec, env = pod["spec"], dict(resolved.env)
    command, args = container.get("command"), container.get("args")
    return ContainerSpec(
        pod=pod_ref(pod),
        name=container["name"],
        attempt=attempt,
        sandbox_id=resolved.sandbox.id,
        handler=resolved.handler,
        image=container["image"],
        image_id=resolved.image.id,
        image_digest=resolved.image.digest,
        command=tuple(expand(word, env) for word in command) if command else None,
        args=tuple(expand(word, env) for word in args) if args else None,
        env=resolved.env,
        working_dir=container.get("workingDir") or "",
        mounts=resolved.mounts,
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        resources=limits_of(pod, container, resolved.memory_capacity),
        security=security(pod, container, resolved.image),
        host_network=is_host_network(pod),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        share_pid=bool(spec.get("shareProcessNamespace")),
        pid_of=resolved.target,
        stop_signal=str((container.get("lifecycle") or {}).get("stopSignal") or ""),
        spec_hash=spec_hash(container),
        backoff=backoff,
        grace_period=grace_period(pod),
    )


def security(pod: Object, container: Object, image: Image) -> Security:
    """The container's own security context over the pod's. Raises `ConfigError`."""
    outer: Mapping[str, Any] = pod["spec"].get("securityContext") or {}
    inner: Mapping[str, Any] = container.get("securityContext") or {}

    def either(name: str) -> Any:
        value = inner.get(name)
        return outer.get(name) if value is None else value

    user, group = either("runAsUser"), either("runAsGroup")
    if either("runAsNonRoot"):
        _check_not_root(user, image, meta.name(pod), container["name"])
    capabilities = inner.get("capabilities") or {}
    privileged = bool(inner.get("privileged"))
    return Security(
        user=_user(user, group),
        groups=_groups(outer),
        privileged=privileged,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        read_only_root=bool(inner.get("readOnlyRootFilesystem")),
        no_new_privileges=inner.get("allowPrivilegeEscalation") is False,
        options=(
            *_seccomp(either("seccompProfile") or {}, privileged),
            *_apparmor(either("appArmorProfile") or {}, privileged),
            *_selinux(either("seLinuxOptions") or {}),
        ),
        seccomp_file=_seccomp_file(either("seccompProfile") or {}, privileged),
    )


def _user(user: Any, group: Any) -> str:
    if user is None:
        # Docker needs a user before a group; Kubernetes then runs as root in that group.
        return f"0:{group}" if group is not None else ""
    return f"{user}:{group}" if group is not None else str(user)


def _groups(outer: Mapping[str, Any]) -> tuple[str, ...]:
    groups = list(outer.get("supplementalGroups") or ())
    if outer.get("fsGroup") is not None:
        groups.append(outer["fsGroup"])
    return tuple(str(group) for group in dict.fromkeys(groups))


def _seccomp(profile: Mapping[str, Any], privileged: bool) -> tuple[str, ...]:
    """Without a profile Docker's own holds: stricter than Kubernetes, where there is none then."""
    return ("seccomp=unconfined",) if profile.get("type") == "Unconfined" and not privileged else ()


def _seccomp_file(profile: Mapping[str, Any], privileged: bool) -> str:
    """A profile among the node's files, by its path there; empty for the others."""
    if privileged or profile.get("type") != "Localhost":
        return ""
    path = posixpath.normpath(str(profile.get("localhostProfile") or ""))
    if path.startswith(("/", "..")) or path == ".":
        raise ConfigError(f"localhostProfile {path!r} is not a path below the node's profiles")
    return path


def _apparmor(profile: Mapping[str, Any], privileged: bool) -> tuple[str, ...]:
    match profile.get("type"):
        case "Unconfined":
            return ("apparmor=unconfined",) if not privileged else ()
        case "Localhost":
            return (f"apparmor={profile.get('localhostProfile') or ''}",)
    return ()


def _selinux(options: Mapping[str, Any]) -> tuple[str, ...]:
    parts = ("user", "role", "type", "level")
    return tuple(f"label={part}:{options[part]}" for part in parts if options.get(part))


def _check_not_root(user: Any, image: Image, pod: str, container: str) -> None:
    where = f'(pod: "{pod}", container: {container})'
    if user is not None:
        if int(user) == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    name = image.user.partition(":")[0]
    if name and not name.isdigit():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify"
            f" user is non-root {where}"
        )
    if not name or int(name) == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
