"""How volumes of each kind come to be on the node: one Protocol, one driver for each kind.

Further drivers are Python packages that offer one under the entry point group `meshkube.volumes`;
docs/volumes.md shows how. What a driver mounts, it mounts at `Request.target`: the node unmounts
that when the pod goes, also where its driver is not there any more.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from meshkube.api.types import Object
from meshkube.node import git
from meshkube.node.mounts import host_path, is_mounted
from meshkube.node.volumes import VolumeError

GROUP = "meshkube.volumes"
MOUNT_SECONDS = 60.0
# Kinds of which the source names its driver.
_NAMED = ("csi", "flexVolume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One volume that one pod wants."""

    target: Path
    """Its place among the pod's files; it may not be there yet."""
    read_only: bool
    mount_options: tuple[str, ...] = ()
    name: str = ""
    """Of the PersistentVolume; empty for a volume of the pod itself."""
    made_here: bool = False
    """A directory that this node makes where it is missing."""


class VolumeDriver(Protocol):
    """Brings volumes of one kind to the node."""

    def set_up(self, source: Object, request: Request) -> Path:
        """Makes the volume usable, and returns the directory or file that containers get. Called
        again for a volume that is there already: it must change nothing then. It may block.
        Raises `VolumeError` with what a person can act on; it is tried again later."""
        ...


class _HostPath:
    def set_up(self, source: Object, request: Request) -> Path:
        return host_path(source)


class _Local:
    def set_up(self, source: Object, request: Request) -> Path:
        path = Path(source["path"])
        if request.made_here:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o777)
        elif not path.exists():
            raise VolumeError(
                f'MountVolume.NewMounter initialization failed for volume "{request.name}" :'
                f' path "{path}" does not exist'
            )
        return path


class _GitRepo:
    def set_up(self, source: Object, request: Request) -> Path:
        return git.clone(source, request.target)


class _Nfs:
    """By the host's own `mount.nfs`, as in the kubelet."""

    def set_up(self, source: Object, request: Request) -> Path:
        if is_mounted(request.target):
            return request.target
        if shutil.which("mount.nfs") is None:
            raise VolumeError("mount.nfs is not on this host: install its NFS client (nfs-common)")
        request.target.mkdir(parents=True, exist_ok=True)
        _run(nfs_command(source, request))
        return request.target


def nfs_command(source: Object, request: Request) -> list[str]:
    """The mount command of an `nfs` source."""
    server = source["server"]
    if ":" in server and not server.startswith("["):
        server = f"[{server}]"
    options = [*(["ro"] if request.read_only else []), *request.mount_options]
    flags = ["-o", ",".join(options)] if options else []
    return ["mount", "-t", "nfs", *flags, f"{server}:{source['path']}", str(request.target)]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=MOUNT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise VolumeError(f"mount timed out after {MOUNT_SECONDS:g} s: {command}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise VolumeError(
            f"mount failed: exit status {done.returncode}\nMounting command: mount\n"
            f"Mounting arguments: {' '.join(command[1:])}\nOutput: {said}"
        )


_BUILT_IN: Mapping[str, Callable[[], VolumeDriver]] = {
    "hostPath": _HostPath,
    "local": _Local,
    "gitRepo": _GitRepo,
    "nfs": _Nfs,
}


def driver_for(kind: str, source: Object) -> VolumeDriver:
    """The driver of a volume. Raises `VolumeError` where there is none."""
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]()
    wanted = str(source.get("driver") or "") if kind in _NAMED else kind
    for entry in entry_points(group=GROUP, name=wanted):
        try:
            driver: VolumeDriver = entry.load()()
        except Exception as error:
            raise VolumeError(f"the driver {wanted} could not be loaded: {error}") from error
        return driver
    if kind in _NAMED:
        raise VolumeError(f"driver name {wanted} not found in the list of registered drivers")
    raise VolumeError(f"volumes of kind {kind} are not supported")
