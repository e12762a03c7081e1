"""What an operator does to this host's Docker: load images, and remove all that meshkube made."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiodocker
import aiohttp

from meshkube.node import docker_convert as convert
from meshkube.node import docker_images
from meshkube.node.runtime import NotFound, RuntimeFailure, RuntimeUnavailable

PIECE = 256 * 1024


@contextlib.asynccontextmanager
async def engine(url: str) -> AsyncIterator[aiodocker.Docker]:
    """The Docker Engine at `url`, its errors as `RuntimeFailure`."""
    try:
        async with aiodocker.Docker(url) as docker:
            yield docker
    except aiodocker.DockerError as error:
        raise RuntimeFailure(error.message) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise RuntimeUnavailable(str(error) or type(error).__name__) from error


async def load_image(docker: aiodocker.Docker, archive: Path) -> list[str]:
    """Loads an archive made by `docker save`; returns the names of what was in it."""
    return await docker_images.loaded(docker, pieces(archive))


async def save_image(docker: aiodocker.Docker, reference: str, archive: Path) -> None:
    """Writes an image of this host as an archive. Raises `NotFound`."""
    try:
        await docker.images.inspect(convert.normalized(reference))
    except aiodocker.DockerError as error:
        raise NotFound(error.message) from error
    with archive.open("wb") as file:
        async for piece in docker_images.saved(docker, reference):
            await asyncio.to_thread(file.write, piece)


async def pieces(file: Path) -> AsyncIterator[bytes]:
    """A file's content, bit by bit."""
    with file.open("rb") as source:
        while piece := await asyncio.to_thread(source.read, PIECE):
            yield piece


async def remove_all(docker: aiodocker.Docker) -> list[str]:
    """Removes every container, the network and our own images. Returns what it removed."""
    removed = []
    containers = []
    for label in (convert.POD_UID, convert.GATEWAY):
        filters = json.dumps({"label": [label]})
        containers += await docker.containers.list(all=1, filters=filters)
    for container in containers:
        with _absent_is_fine():
            await container.delete(force=True, v=True)
    if containers:
        removed.append(f"{len(containers)} containers")
    for network in await docker.networks.list(filters={"name": [convert.NETWORK]}):
        if network["Name"] == convert.NETWORK:
            await (await docker.networks.get(network["Id"])).delete()
            removed.append(f"Docker network {convert.NETWORK}")
    for image in sorted(docker_images.OWN):
        with _absent_is_fine():
            await docker.images.delete(image, force=True)
            removed.append(f"image {image}")
    return removed


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise
