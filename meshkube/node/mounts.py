"""A pod's files on the node: volumes, /etc/hosts, resolv.conf, termination logs. Blocking calls:
run them in a thread.

    <data-dir>/pods/<uid>/volumes/<name>/            emptyDir, or a projection
                          etc/hosts, etc/resolv.conf
                          containers/<name>/<attempt>  what a container leaves as its last message
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.node.runtime import Mount
from meshkube.node.volumes import DEFAULT_MODE, File, Files, VolumeError

# Bytes of a termination log that reach the status.
MESSAGE_LIMIT = 4096
_MNT_DETACH = 2
_DATA = "..data"
_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class PodDirectory:
    """The files of the pod with `uid`, under `root` (`<data-dir>/pods`)."""

    def __init__(self, root: Path, uid: str) -> None:
        self.path = root / uid

    def volume_path(self, name: str) -> Path:
        return self.path / "volumes" / name

    def write_etc(self, name: str, content: str) -> Path:
        """Writes in place: containers have the very file mounted."""
        path = self.path / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            path.chmod(0o644)
        return path

    def termination_log(self, container: str, attempt: int) -> Path:
        path = self.path / "containers" / container / str(attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        return path

    def termination_message(self, container: str, attempt: int) -> str:
        """What the container wrote there; empty where nothing."""
        path = self.path / "containers" / container / str(attempt)
        try:
            with path.open("rb") as file:
                return file.read(MESSAGE_LIMIT).decode(errors="replace")
        except OSError:
            return ""

    def empty_dir(self, name: str, source: Object, group: int | None) -> Path:
        """Makes an emptyDir volume, on disk or in memory. Raises `VolumeError`."""
        path, medium = self.volume_path(name), source.get("medium") or ""
        if medium not in ("", "Memory"):
            raise VolumeError(f"emptyDir volumes of medium {medium} are not supported")
        if medium == "Memory":
            if not os.path.ismount(path):
                path.mkdir(parents=True, exist_ok=True)
                _mount_tmpfs(path, source.get("sizeLimit"))
        elif not path.exists():
            path.mkdir(parents=True)
        # A tmpfs keeps the bit that it comes with: who made a file may remove it, nobody else.
        mode = 0o1777 if medium == "Memory" else 0o777
        if group is not None:
            os.chown(path, -1, group)
            mode |= 0o2000
        path.chmod(mode)
        return path

    def write_projection(self, name: str, files: Files, group: int | None) -> bool:
        """Puts `files` in place of what the volume holds, in one step for whoever reads it.
        False where nothing had to change."""
        volume = self.volume_path(name)
        volume.mkdir(parents=True, exist_ok=True)
        files = {path: _settled(file, group) for path, file in files.items()}
        if _current(volume) == {path: (f.content, f.mode) for path, f in files.items()}:
            return False
        old = _target(volume)
        fresh = volume / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.time_ns() % 10**9}"
        fresh.mkdir(mode=0o755)
        for path, file in files.items():
            _write(fresh / path, file, group)
        link = volume / "..data_tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(fresh.name)
        link.rename(volume / _DATA)
        _link_entries(volume, {path.partition("/")[0] for path in files})
        if old is not None and old != fresh:
            shutil.rmtree(old, ignore_errors=True)
        return True

    def erase_empty_dir(self, name: str) -> None:
        """Gives back the disk or memory that an emptyDir takes. Raises `OSError`."""
        path = self.volume_path(name)
        if is_mounted(path):
            _unmount(path)
        shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Takes everything away: what is mounted is unmounted first, and where that fails nothing
        is touched, for it may be somebody's data. Raises `OSError`."""
        volumes = self.path / "volumes"
        if volumes.is_dir():
            for entry in volumes.iterdir():
                while is_mounted(entry):
                    _unmount(entry)
        shutil.rmtree(self.path, ignore_errors=True)


def _current(volume: Path) -> dict[str, tuple[bytes, int]] | None:
    target = _target(volume)
    if target is None:
        return None
    return {
        str(path.relative_to(target)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in target.rglob("*")
        if path.is_file()
    }


def _target(volume: Path) -> Path | None:
    try:
        return volume / os.readlink(volume / _DATA)
    except OSError:
        return None


def _settled(file: File, group: int | None) -> File:
    """The file as it can be on this host."""
    if file.owner is not None and os.geteuid() != 0:
        # Whoever it is for must be able to read what is not theirs.
        return replace(file, owner=None, mode=DEFAULT_MODE)
    return file if group is None else replace(file, mode=file.mode | 0o440)


def _write(path: Path, file: File, group: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.content)
    if group is not None or file.owner is not None:
        keep = -1
        os.chown(path, keep if file.owner is None else file.owner, keep if group is None else group)
    path.chmod(file.mode)


def _link_entries(volume: Path, names: set[str]) -> None:
    for entry in volume.iterdir():
        if entry.is_symlink() and entry.name not in names and not entry.name.startswith(".."):
            entry.unlink()
    for name in names:
        link = volume / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")


def _libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount_tmpfs(path: Path, size: str | None) -> None:
    options = "mode=0777"
    if size and quantities.value(size) > 0:
        options += f",size={quantities.value(size)}"
    flags = ctypes.c_ulong(0x2 | 0x4)  # nosuid, nodev
    try:
        _libc_call(
            "mount", b"tmpfs", os.fsencode(path), b"tmpfs", flags, ctypes.c_char_p(options.encode())
        )
    except OSError as error:
        raise VolumeError(f"mounting tmpfs at {path}: {error.strerror}") from error


def is_mounted(path: Path) -> bool:
    """True for a mount point; also for one whose server does not answer."""
    try:
        return os.path.ismount(path)
    except OSError:
        return True


def _unmount(path: Path) -> None:
    _libc_call("umount2", os.fsencode(path), _MNT_DETACH)


def give_to_group(path: Path, group: int, policy: str) -> None:
    """Lets a pod's `fsGroup` own and write all that a volume holds. With the policy
    `OnRootMismatch` only where the volume itself is not that group's yet. A volume may be a link to
    where its files are; links within it are left alone."""
    path = path.resolve()
    root = path.stat()
    right = root.st_gid == group and root.st_mode & 0o2070 == 0o2070
    if policy == "OnRootMismatch" and right:
        return
    for folder, folders, files in os.walk(path, topdown=False):
        for name in (*folders, *files):
            _give(Path(folder) / name, group)
    _give(path, group)


def _give(path: Path, group: int) -> None:
    os.chown(path, -1, group, follow_symlinks=False)
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return
    path.chmod(stat.S_IMODE(mode) | (0o2070 if stat.S_ISDIR(mode) else 0o060))


_HOST_PATH_CHECKS: Mapping[str, tuple[str, Callable[[int], bool]]] = {
    "Directory": ("a directory", stat.S_ISDIR),
    "DirectoryOrCreate": ("a directory", stat.S_ISDIR),
    "File": ("a file", stat.S_ISREG),
    "FileOrCreate": ("a file", stat.S_ISREG),
    "Socket": ("a socket file", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


def host_path(source: Object) -> Path:
    """Checks (and where asked for makes) a hostPath volume. Raises `VolumeError`."""
    path, type = Path(source["path"]), source.get("type") or ""
    try:
        if type == "DirectoryOrCreate" or (not type and not path.exists()):
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif type == "FileOrCreate" and not path.exists():
            path.touch(mode=0o644)
    except OSError as error:
        raise VolumeError(f"hostPath {path}: {error.strerror}") from error
    if type in _HOST_PATH_CHECKS:
        what, check = _HOST_PATH_CHECKS[type]
        try:
            good = check(path.stat().st_mode)
        except OSError:
            good = False
        if not good:
            raise VolumeError(f"hostPath type check failed: {path} is not {what}")
    return path


def container_mount(volume: Path, mount: Object, read_only: bool, subpath: str) -> Mount:
    """One `volumeMount` on the volume at `volume`. Raises `VolumeError`."""
    source = _within(volume, subpath) if subpath else volume
    target = mount["mountPath"]
    return Mount(
        str(source),
        target if target.startswith("/") else "/" + target,
        read_only or bool(mount.get("readOnly")),
        _PROPAGATION.get(mount.get("mountPropagation") or "", "rprivate"),  # type: ignore[arg-type]
    )


def _within(volume: Path, subpath: str) -> Path:
    """The real path of a part of the volume; directories that are missing are made like the volume.

    Looked at before anything is made: links in the volume are its containers' to lay, and may lead
    anywhere.
    """
    root = volume.resolve()
    try:
        path = (root / subpath).resolve()
        if path != root and root not in path.parents:
            raise VolumeError(f"subPath {subpath!r} is not inside the volume")
        mode = stat.S_IMODE(root.stat().st_mode)
        for directory in reversed((path, *path.parents)):
            if not directory.exists():
                directory.mkdir()
                directory.chmod(mode)
    except (OSError, RuntimeError) as error:
        # The second is for links that go round in a circle.
        raise VolumeError(f"subPath {subpath!r} cannot be made: {error}") from error
    return path
