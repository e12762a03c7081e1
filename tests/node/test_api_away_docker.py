"""The API goes away; what runs goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError, unavailable
from tests.lab.host import Host
from tests.node.world import (
    container_id,
    docker_world,
    eventually,
    in_host,
    pod,
    status_of,
)

pytestmark = [pytest.mark.root, pytest.mark.docker]


class Cut:
    """A Client whose line can be cut."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.away = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            if self.away:
                raise unavailable("the line is cut")
            return await getattr(self._client, name)(*args, **more)

        return call

    async def watch(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
        """Breaks off with the line."""
        if self.away:
            raise unavailable("the line is cut")
        events = self._client.watch(*args, **more)
        following: asyncio.Future[Any] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(events))
                while not following.done():
                    await asyncio.wait({following}, timeout=0.05)
                    if self.away:
                        raise unavailable("the line is cut")
                yield following.result()
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            await events.aclose()


def test_containers_are_looked_after_without_the_api(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.stop_agent()
            api, world.client = world.client, Cut(world.client)
            await world.start_agent(docker_host.address)
            await world.create(pod("a"))
            await world.create(pod("b"))
            first = container_id(await world.running("a"))
            await world.running("b")
            world.client.away = True
            await asyncio.sleep(0.3)
            docker_host.docker("kill", first)

            async def again() -> bool:
                names = docker_host.docker("ps", "--format", "{{.Names}} {{.ID}}").stdout
                return any("mk_c_a_" in line for line in names.splitlines())

            await eventually(again, what="the container runs again")
            with pytest.raises(ApiError):
                await world.pod("a")
            await api.delete(kinds.POD, "b", "default")
            world.client.away = False
            await world.until("a", lambda p: status_of(p)["restartCount"] == 1)
            await world.running("a")
            await world.gone("b")

    in_host(docker_host, scenario(), 25)
