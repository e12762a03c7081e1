"""Images from other nodes, on a real Docker; the other nodes are honest, lie, or break off."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from meshkube.api import kinds
from meshkube.clock import SystemClock
from meshkube.node.image_peers import ID_HEADER, ImagePeers
from meshkube.node.images import Images
from meshkube.node.runtime import ImagePullFailure
from tests.lab.host import Host
from tests.node.test_server_docker import contexts
from tests.node.world import IMAGE, World, docker_world, in_host

pytestmark = [pytest.mark.root, pytest.mark.docker]

# Nobody listens there: what no node has is not found in its registry either.
WANTED = "127.0.0.1:9/lab/wanted:1"


class Peer:
    """Another node: hands out `archive` as what has the id `id`, or only its first half."""

    def __init__(self, archive: bytes, id: str, *, breaks: bool = False) -> None:
        self._archive = archive
        self._id = id
        self._breaks = breaks
        self.asked = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        if request.query.get("name") != WANTED:
            return web.Response(status=404)
        response = web.StreamResponse(headers={ID_HEADER: self._id})
        await response.prepare(request)
        if self._breaks:
            await response.write(self._archive[: len(self._archive) // 2])
            assert request.transport is not None
            request.transport.abort()
            raise ConnectionResetError
        await response.write(self._archive)
        return response


@contextlib.asynccontextmanager
async def listening(world: World, tls: ssl.SSLContext, *peers: Peer) -> AsyncIterator[None]:
    """Makes the peers nodes of the cluster: their names are `peer-0`, `peer-1` and so on."""
    async with contextlib.AsyncExitStack() as stack:
        for number, peer in enumerate(peers):
            runner = web.ServerRunner(web.Server(peer.handle), shutdown_timeout=0.5)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            status = {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": runner.addresses[0][1]}},
                "images": [{"names": [WANTED], "sizeBytes": 1}],
            }
            node = {"metadata": {"name": f"peer-{number}"}, "status": status}
            await world.client.create(kinds.NODE, node)
            stack.push_async_callback(world.client.delete, kinds.NODE, f"peer-{number}")
        yield


def archive_of(host: Host, *names: str) -> tuple[bytes, str]:
    """An image of these names as an archive, and its id; they are gone from the host afterwards."""
    engine = ["docker", "--host", host.docker_socket]
    for name in names:
        host.docker("tag", IMAGE, name)
    saved = subprocess.run([*engine, "save", *names], check=True, capture_output=True).stdout
    id = host.docker("image", "inspect", "-f", "{{.Id}}", names[0]).stdout.strip()
    host.docker("rmi", *names)
    return saved, id


@contextlib.asynccontextmanager
async def asking(host: Host, tmp_path: Path, *peers: Peer) -> AsyncIterator[tuple[World, Images]]:
    server_tls, client_tls = await asyncio.to_thread(contexts, tmp_path)
    async with docker_world(host, tmp_path) as world, listening(world, server_tls, *peers):
        found = ImagePeers(world.client, client_tls, "n1")
        try:
            yield world, Images(world.runtime, SystemClock(), tmp_path, found)
        finally:
            await world.runtime.remove_image(WANTED)


def test_the_one_that_is_whole_and_true_is_taken(docker_host: Host, tmp_path: Path) -> None:
    archive, id = archive_of(docker_host, WANTED)
    peers = [Peer(archive, "sha256:other"), Peer(archive, id, breaks=True), Peer(archive, id)]

    async def scenario() -> None:
        async with asking(docker_host, tmp_path, *peers) as (_, images):
            fetched = await images.pull(WANTED, "IfNotPresent")
            assert (fetched.node, fetched.image.id) == ("peer-2", id)
            assert peers[2].asked == 1
            # It is here now: nobody is asked again.
            assert (await images.pull(WANTED, "IfNotPresent")).node == ""
            assert peers[2].asked == 1

    in_host(docker_host, scenario())


def test_what_is_not_what_it_says_leaves_nothing(docker_host: Host, tmp_path: Path) -> None:
    archive, id = archive_of(docker_host, WANTED)
    other, _ = archive_of(docker_host, "lab/other:1")
    both, _ = archive_of(docker_host, WANTED, "lab/other:1")
    peers = [
        Peer(archive, "sha256:other"),
        Peer(archive, id, breaks=True),
        Peer(other, id),
        Peer(both, id),
        Peer(b"no archive", id),
    ]

    async def scenario() -> None:
        async with asking(docker_host, tmp_path, *peers) as (world, images):
            with pytest.raises(ImagePullFailure):
                await images.pull(WANTED, "IfNotPresent")
            assert [peer.asked for peer in peers] == [1, 1, 1, 1, 1]
            for name in (WANTED, "lab/other:1"):
                assert await world.runtime.image(name) is None

    in_host(docker_host, scenario())


def test_only_if_not_present_asks_other_nodes(docker_host: Host, tmp_path: Path) -> None:
    archive, id = archive_of(docker_host, WANTED)
    peer = Peer(archive, id)

    async def scenario() -> None:
        async with asking(docker_host, tmp_path, peer) as (_, images):
            with pytest.raises(ImagePullFailure):
                await images.pull(WANTED, "Always")
            digest = "127.0.0.1:9/lab/wanted@sha256:" + "0" * 64
            with pytest.raises(ImagePullFailure):
                await images.pull(digest, "IfNotPresent")
            assert peer.asked == 0

    in_host(docker_host, scenario())
