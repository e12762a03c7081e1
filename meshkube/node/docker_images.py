"""The images that a Docker Engine has: listed, saved as an archive, loaded from one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiodocker
import orjson

from meshkube.node import docker_convert as convert
from meshkube.node import pause
from meshkube.node.image_ledger import PINNED
from meshkube.node.runtime import ImageArchiveFailure, LocalImage

OWN = frozenset({pause.IMAGE, convert.GATEWAY_IMAGE})
"""Images made on this host: of no pod's, and not to be removed."""
_NO_NAME = "<none>"


async def listed(docker: aiodocker.Docker) -> list[LocalImage]:
    """Every image that has a name, our own left out."""
    found = []
    for one in await docker._query_json("images/json", "GET"):
        names = [name for name in one.get("RepoTags") or () if _NO_NAME not in name]
        digests = [name for name in one.get("RepoDigests") or () if _NO_NAME not in name]
        if (names or digests) and not OWN.intersection(names):
            labels = one.get("Labels") or {}
            pinned = any(labels.get(label) in ("pinned", "true") for label in PINNED)
            size = int(one.get("Size") or 0)
            found.append(LocalImage(str(one["Id"]), (*digests, *names), size, pinned))
    return found


async def imported(docker: aiodocker.Docker, name: str, entrypoint: str, content: bytes) -> None:
    """Makes an image of ours out of its root filesystem."""
    repository, _, tag = name.partition(":")
    params = {
        "fromSrc": "-",
        "repo": repository,
        "tag": tag,
        "changes": f'ENTRYPOINT ["{entrypoint}"]',
    }
    headers = {"Content-Type": "application/x-tar"}
    async with docker._query(
        "images/create", "POST", params=params, data=content, headers=headers
    ) as response:
        await response.read()


async def saved(docker: aiodocker.Docker, reference: str) -> AsyncGenerator[bytes, None]:
    """The archive of one image, as `docker save` makes it."""
    params = {"names": convert.normalized(reference)}
    async with docker._query("images/get", "GET", params=params, timeout=None) as response:
        async for piece in response.content.iter_any():
            yield piece


async def loaded(docker: aiodocker.Docker, archive: AsyncIterator[bytes]) -> list[str]:
    """What was loaded: names, and ids of what has none. Raises `ImageArchiveFailure`."""
    headers = {"Content-Type": "application/x-tar"}
    found = []
    async with docker._query(
        "images/load", "POST", data=archive, headers=headers, timeout=None
    ) as response:
        async for line in response.content:
            if not line.strip():
                continue
            said = orjson.loads(line)
            if "error" in said:
                raise ImageArchiveFailure(str(said["error"]))
            found += _names(str(said.get("stream") or ""))
    if not found:
        raise ImageArchiveFailure("the archive holds no image")
    return found


def _names(said: str) -> list[str]:
    """`Loaded image: NAME` or `Loaded image ID: ID`."""
    lines = [line for line in said.splitlines() if line.startswith("Loaded image")]
    return [line.partition(": ")[2].strip() for line in lines]


async def files(docker: aiodocker.Docker, id: str) -> AsyncGenerator[bytes, None]:
    """The image's root file system as a tar: a container that never runs is made of it, and goes
    again. One left over by a process that ended meanwhile is replaced."""
    name = f"mk_files_{id.rpartition(':')[2][:12]}"
    labels = {convert.PREFIX + "files-of": id}
    body: dict[str, Any] = {
        "Image": id,
        "Entrypoint": ["/"],
        "NetworkDisabled": True,
        "Labels": labels,
    }
    with contextlib.suppress(aiodocker.DockerError):
        await docker.containers.container(name).delete(force=True)
    made = await docker.containers.create(body, name=name)
    try:
        path = f"containers/{made.id}/export"
        async with docker._query(path, "GET", timeout=None) as response:
            async for piece in response.content.iter_any():
                yield piece
    finally:
        await made.delete(force=True)


async def removed(docker: aiodocker.Docker, reference: str) -> None:
    """Takes one name away, and the image with its last one."""
    await docker.images.delete(convert.normalized(reference))
