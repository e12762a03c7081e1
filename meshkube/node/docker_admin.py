"""What an operator does to this host's Docker: load images, and remove all that meshkube made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiodocker
import aiohttp

from meshkube.node import docker_convert as convert
from meshkube.node import pause
from meshkube.node.runtime import RuntimeFailure, RuntimeUnavailable


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
    """Loads an archive made by `docker save`; returns what Docker says of it, a line each."""
    lines = []
    with archive.open("rb") as file:
        async for said in docker.images.import_image(file, stream=True):
            if "error" in said:
                raise RuntimeFailure(str(said["error"]))
            lines += str(said.get("stream") or "").strip().splitlines()
    return lines


async def remove_all(docker: aiodocker.Docker) -> list[str]:
    """Removes every container, the network and the sandbox image. Returns what it removed."""
    removed = []
    filters = json.dumps({"label": [convert.POD_UID]})
    containers = await docker.containers.list(all=1, filters=filters)
    for container in containers:
        with _absent_is_fine():
            await container.delete(force=True, v=True)
    if containers:
        removed.append(f"{len(containers)} containers")
    for network in await docker.networks.list(filters={"name": [convert.NETWORK]}):
        if network["Name"] == convert.NETWORK:
            await (await docker.networks.get(network["Id"])).delete()
            removed.append(f"Docker network {convert.NETWORK}")
    with _absent_is_fine():
        await docker.images.delete(pause.IMAGE, force=True)
        removed.append(f"image {pause.IMAGE}")
    return removed


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise
