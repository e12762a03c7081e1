"""What an archive of images would name, looked at before it is loaded.

An archive names its images itself, and loading it moves those names, whatever they were before. One
that another node sent must name what was asked for and nothing else. Sources: the forms of `docker
save` (`manifest.json`, `repositories`) and the OCI image layout (`index.json`).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any

import orjson

from meshkube.node.docker_convert import normalized
from meshkube.node.runtime import ImageArchiveFailure

LARGEST_INDEX = 4 * 1024 * 1024
_INDEXES = ("manifest.json", "repositories", "index.json")
_DEFAULT = ("docker.io/library/", "docker.io/")
_FULL_NAME = "io.containerd.image.name"


def check(archive: IO[bytes], reference: str) -> None:
    """Raises `ImageArchiveFailure` where the archive names anything but `reference`. Blocking."""
    try:
        archive.seek(0)
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            names = {short(name) for name in _names(tar)}
    except (tarfile.TarError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ImageArchiveFailure(f"not an archive of images: {error}") from None
    archive.seek(0)
    if names != {short(reference)}:
        raise ImageArchiveFailure(f"the archive names {', '.join(sorted(names)) or 'no image'}")


def _names(tar: tarfile.TarFile) -> Iterator[str]:
    for member in tar:
        name = member.name.removeprefix("./")
        if name not in _INDEXES:
            continue
        file = tar.extractfile(member)
        if file is None or member.size > LARGEST_INDEX:
            raise ImageArchiveFailure(f"{name} in the archive is no index")
        yield from _NAMES_IN[name](orjson.loads(file.read()))


def _of_manifest(content: Any) -> Iterator[str]:
    for image in content:
        yield from image.get("RepoTags") or ()


def _of_repositories(content: Any) -> Iterator[str]:
    for repository, tags in content.items():
        yield from (f"{repository}:{tag}" for tag in tags)


def _of_index(content: Any) -> Iterator[str]:
    for manifest in content.get("manifests") or ():
        full = (manifest.get("annotations") or {}).get(_FULL_NAME)
        if full:
            yield full


_NAMES_IN = {
    "manifest.json": _of_manifest,
    "repositories": _of_repositories,
    "index.json": _of_index,
}


def short(reference: str) -> str:
    """With its tag, and without the registry that is meant where none is named."""
    name = normalized(reference)
    for prefix in _DEFAULT:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
