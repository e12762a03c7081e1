"""gitRepo volumes: a working tree, cloned by the host's own git when the pod starts.

What the repository brings along never runs on the host: no hooks, no filters, no submodules, no
credentials asked for, no protocol that starts a program. Source: Kubernetes documentation,
"Volumes", "gitRepo"; git's own, "git-config" (`protocol.allow`, `safe.directory`).
"""

from __future__ import annotations

import os
import posixpath
import shutil
import subprocess
import tempfile
from pathlib import Path

from meshkube.api.types import Object
from meshkube.node.volumes import VolumeError

SECONDS = 120.0
PROTOCOLS = "file:git:http:https:ssh"
# A repository of another user of this host is read, never run: that is what the rest is for.
_CONFIG = "[safe]\n\tdirectory = *\n"


def clone(source: Object, target: Path) -> Path:
    """Puts the working tree at `target`, whole or not at all; one that is there stays as it is.
    Raises `VolumeError`."""
    if target.exists():
        return target
    repository, revision, folder = checked(source)
    if shutil.which("git") is None:
        raise VolumeError("git is not on this host: gitRepo volumes need it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".git-", dir=target.parent) as scratch:
        place = Path(scratch)
        config = place / "config"
        config.write_text(_CONFIG)
        tree = place / "tree"
        tree.mkdir(mode=0o755)
        inside = _inside(tree, repository, folder)
        _git(config, place, "clone", "--no-checkout", "--template=", "--", repository, str(inside))
        _git(config, inside, "checkout", "--quiet", "--force", revision or "HEAD", "--")
        tree.rename(target)
    return target


def checked(source: Object) -> tuple[str, str, str]:
    """Repository, revision, directory. Raises `VolumeError` for what git would take for an option,
    or what leads out of the volume."""
    repository = str(source.get("repository") or "")
    revision = str(source.get("revision") or "")
    folder = str(source.get("directory") or "")
    if not repository:
        raise VolumeError("gitRepo names no repository")
    for what, value in (("repository", repository), ("revision", revision), ("directory", folder)):
        if value.startswith("-"):
            raise VolumeError(f"{value!r} is not a valid value for {what}")
        if any(ord(c) < 32 for c in value):
            raise VolumeError(f"{what} holds control characters")
    if "::" in repository.partition("/")[0]:
        raise VolumeError(f"repository {repository!r}: git's remote helpers are not allowed")
    if folder:
        parts = posixpath.normpath(folder).split("/")
        if folder.startswith("/") or ".." in parts or ".git" in (part.lower() for part in parts):
            raise VolumeError(f"directory {folder!r} is not a valid value")
    return repository, revision, folder


def _inside(tree: Path, repository: str, folder: str) -> Path:
    """Where the working tree goes: the volume itself (`.`), a directory of it, or, by default, one
    with the repository's name."""
    if folder and posixpath.normpath(folder) != ".":
        return tree / posixpath.normpath(folder)
    if folder:
        return tree
    name = repository.rstrip("/").removesuffix("/.git").rpartition("/")[2].rpartition(":")[2]
    return tree / (name.removesuffix(".git") or "repository")


def environment(config: Path) -> dict[str, str]:
    """All that git gets to know of this host."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ALLOW_PROTOCOL": PROTOCOLS,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=15",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }


def _git(config: Path, place: Path, *arguments: str) -> None:
    command = [
        "git",
        "-c", "core.hooksPath=/dev/null",
        "-c", "core.fsmonitor=false",
        "-c", "submodule.recurse=false",
        "-c", "credential.helper=",
        "-c", "advice.detachedHead=false",
        *arguments,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            cwd=place,
            env=environment(config),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise VolumeError(f"git {arguments[0]} took more than {SECONDS:g} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise VolumeError(
            f"failed to exec 'git {' '.join(arguments)}': {said}: exit status {done.returncode}"
        )
