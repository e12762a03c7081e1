"""The container that stands in the pods' network and answers for Services, where no rule of the
kernel does (userspace mode)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiodocker

from meshkube.node import docker_admin, docker_images
from meshkube.node import docker_convert as convert
from meshkube.node.runtime import RuntimeFailure

NETWORK_WITHIN = 15.0
_LOOK_EVERY = 0.1
_GONE_WITHIN = 10.0


class GatewayContainer:
    """Starts it on the Docker Engine at `url`."""

    def __init__(
        self, url: str, root_filesystem: Callable[[str], bytes], entrypoint: str, target: str
    ) -> None:
        """`root_filesystem(machine)`: its image, with the executable `entrypoint`. `target`: where
        it has the directory it is given."""
        self._url = url
        self._root_filesystem = root_filesystem
        self._entrypoint = entrypoint
        self._target = target

    async def start(self, directory: Path) -> None:
        """Raises `RuntimeFailure`."""
        async with docker_admin.engine(self._url) as docker:
            await _network(docker)
            await self._image(docker)
            await remove(docker)
            body = convert.gateway_body(convert.GATEWAY_IMAGE, str(directory), self._target)
            made = await docker.containers.create(body, name=convert.GATEWAY_NAME)
            await made.start()

    async def _image(self, docker: aiodocker.Docker) -> None:
        machine = str((await docker.version()).get("Arch") or "")
        content = self._root_filesystem(machine)
        await docker_images.imported(docker, convert.GATEWAY_IMAGE, self._entrypoint, content)


async def remove(docker: aiodocker.Docker) -> bool:
    """Takes the container away, and waits until it is gone. False where there is none."""
    there = False
    async with asyncio.timeout(_GONE_WITHIN):
        while True:
            try:
                await docker.containers.container(convert.GATEWAY_NAME).delete(force=True)
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return there
                # One that has ended is on its way out by itself.
                if error.status != 409:
                    raise
            there = True
            await asyncio.sleep(_LOOK_EVERY)


async def _network(docker: aiodocker.Docker) -> None:
    """Waits for the pods' network: it is made once the node knows its addresses."""
    for _ in range(round(NETWORK_WITHIN / _LOOK_EVERY)):
        if await docker.networks.list(filters={"name": [convert.NETWORK]}):
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise RuntimeFailure(f"there is no Docker network {convert.NETWORK} yet")
