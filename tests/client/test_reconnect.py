"""An informer over HTTPS while its API server goes away and comes back, at one address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from meshkube.api import meta
from meshkube.api.kinds import CONFIG_MAP
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.http import HttpClient
from meshkube.client.informer import Informer
from tests.support.api import serving_api

PATIENCE = 60.0


class Address:
    """A port of its own that leads to `target`, or refuses while there is none."""

    def __init__(self) -> None:
        self.target = 0
        self.url = ""
        self._links: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends every connection without a word."""
        self.target = 0
        for link in self._links:
            link.transport.abort()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            self.cut()
            server.close()
            await asyncio.sleep(0.05)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.target:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        self._links |= {writer, forth}
        await asyncio.gather(pump(reader, forth), pump(back, writer))
        self._links -= {writer, forth}


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()


def config_map(name: str) -> Object:
    metadata = {"name": name, "namespace": "default", "labels": {"app": "x"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def served(directory: Path, address: Address) -> AsyncIterator[Client]:
    async with serving_api(directory) as api, api.client() as client:
        address.target = int(api.url.rpartition(":")[2])
        try:
            yield client
        finally:
            address.cut()


async def test_an_informer_outlives_its_server(tmp_path: Path) -> None:
    address = Address()
    async with address.open(), asyncio.TaskGroup() as group:
        async with serving_api(tmp_path) as first:
            tls = first.tls
        async with HttpClient(address.url, tls) as client:
            informer = Informer(client, CONFIG_MAP, labels="app=x")
            heard: list[tuple[str, bool]] = []
            informer.subscribe(
                lambda old, new: heard.append((meta.name(new or old or {}), new is not None))
            )
            task = group.create_task(informer.run())
            async with served(tmp_path, address) as direct:
                await direct.create(CONFIG_MAP, config_map("a"))
                await direct.create(CONFIG_MAP, config_map("b"))
                await until(lambda: len(informer) == 2)
                # A connection that is cut: the watch goes on where it stopped.
                port = address.target
                address.cut()
                await direct.create(CONFIG_MAP, config_map("c"))
                address.target = port
                await until(lambda: len(informer) == 3)
            # A server that is away: what is known stays.
            await asyncio.sleep(0.3)
            assert informer.synced
            assert len(informer) == 3
            # Another server over the same store: only what changed is heard of.
            async with served(tmp_path, address) as direct:
                await direct.delete(CONFIG_MAP, "a", "default")
                await direct.create(CONFIG_MAP, config_map("d"))
                await until(lambda: informer.get("default/d") and not informer.get("default/a"))
            task.cancel()
    assert heard == [("a", True), ("b", True), ("c", True), ("a", False), ("d", True)]
