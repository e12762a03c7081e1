"""Images from a registry that asks who is there: a real one, on a real Docker Engine."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from meshkube.api import kinds
from meshkube.api.types import Object
from tests.lab.host import Host
from tests.lab.registry import Registry, registry, secret
from tests.node.test_server_docker import serving
from tests.node.world import IMAGE, World, container, docker_world, in_host, pod, status_of

pytestmark = [pytest.mark.root, pytest.mark.docker]

PASSWORD = "open-sesame"


@pytest.fixture(scope="module")
def private(docker_host: Host) -> Iterator[Registry]:
    with registry(docker_host, {"me": PASSWORD}) as found:
        yield found


@contextlib.asynccontextmanager
async def away(address: str) -> AsyncIterator[str]:
    """A registry whose proxy says that nobody is in."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=503)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, address, 0).start()
        yield f"{address}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def asks(image: str, name: str = "c", policy: str = "Always") -> Object:
    return {**container(name), "image": image, "imagePullPolicy": policy}


def waiting(found: Object, name: str = "c") -> Object:
    return status_of(found, name)["state"].get("waiting") or {}


def waits(*reasons: str) -> Callable[[Object], bool]:
    """A failed pull shows only for a while as what it is: either will do, where time is short."""
    return lambda found: waiting(found).get("reason") in reasons


async def create_secret(world: World, made: Object) -> None:
    await world.client.create(kinds.SECRET, made)


def test_a_pull_secret_opens_the_registry(
    private: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = private.push(IMAGE, "team/app:1", "me", PASSWORD)
    image = f"{private.address}/team/app:1"

    async def scenario() -> None:
        async with docker_world(private.host, tmp_path) as world:
            # Wrong ones are tried too, then the right one, wherever it is.
            wrong = secret("wrong", (private.address, "me", "no"), (private.address, "you", "no"))
            await create_secret(world, wrong)
            refs = [{"name": "wrong"}, {"name": "later"}]
            await world.create(pod("a", asks(image), imagePullSecrets=refs))
            found = await world.until("a", waits("ErrImagePull", "ImagePullBackOff"))
            assert "unauthorized: authentication required" in waiting(found)["message"]
            await world.event("a", "FailedToRetrieveImagePullSecret", "pull secrets (later);")
            await world.event("a", "Failed", f'Failed to pull image "{image}"')
            # The missing one comes.
            where = private.address.replace("127.0.0", "127.*.0") + "/team"
            await create_secret(world, secret("later", (where, "me", PASSWORD)))
            found = await world.running("a")
            await world.event("a", "Pulled", f'Successfully pulled image "{image}" in ')
            assert status_of(found)["imageID"]

            by_digest = f"{private.address}/team/app@{digest}"
            one = asks(by_digest, policy="IfNotPresent")
            await world.create(pod("b", one, imagePullSecrets=[{"name": "later"}]))
            found = await world.running("b")
            assert status_of(found)["imageID"] == f"docker-pullable://{by_digest}"
            # Always asks anew, so who has no key does not get in.
            await world.create(pod("c", asks(image)))
            await world.until("c", waits("ImagePullBackOff"))
            events = json.dumps((await world.client.list(kinds.EVENT, "default")).items)
            basic = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
            for text in (PASSWORD, basic):
                assert text not in events
                assert text not in caplog.text

    in_host(private.host, scenario(), 120)


def test_other_nodes_do_not_get_what_a_key_opened(private: Registry, tmp_path: Path) -> None:
    private.push(IMAGE, "team/secret:1", "me", PASSWORD)
    image, host = f"{private.address}/team/secret:1", private.host

    async def scenario() -> None:
        async with serving(host, tmp_path) as node:
            await create_secret(node.world, secret("key", (private.address, "me", PASSWORD)))
            await node.world.create(pod("a", asks(image), imagePullSecrets=[{"name": "key"}]))
            await node.world.running("a")
            other = await asyncio.to_thread(ssl.create_default_context, cafile=tmp_path / "ca.crt")
            other.load_cert_chain(tmp_path / "other.crt", tmp_path / "other.key")
            url, params = f"{node.base}/images/archive", {"name": image}
            connector = aiohttp.TCPConnector(ssl=other)
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(url, params=params) as response,
            ):
                assert response.status == 404
                assert "pull secret" in await response.text()
            async with node.session.get(url, params=params) as response:
                assert response.status == 200
                assert await response.read()
            kept = await asyncio.to_thread((tmp_path / "node" / "images.json").read_text)
            assert '"private":true' in kept

    in_host(host, scenario(), 120)


def test_the_node_has_credentials_of_its_own(private: Registry, tmp_path: Path) -> None:
    private.push(IMAGE, "node/app:1", "me", PASSWORD)
    image = f"{private.address}/node/app:1"
    both = base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    async def scenario() -> None:
        async with docker_world(private.host, tmp_path) as world:
            volume = {"name": "v", "image": {"reference": image, "pullPolicy": "Always"}}
            mount = {"name": "v", "mountPath": "/v"}
            reader = container("c", "ls /v/bin/sh; sleep 100", volumeMounts=[mount])
            await world.create(pod("volume", reader, volumes=[volume]))
            await world.event("volume", "FailedMount", f'image "{image}"')
            (tmp_path / "registries.json").write_text(
                json.dumps({"auths": {private.address: {"auth": both}}})
            )
            await world.create(pod("a", asks(image)))
            await world.running("a")
            await world.running("volume")

    in_host(private.host, scenario(), 120)


def test_what_is_wrong_with_an_image_has_its_own_reason(private: Registry, tmp_path: Path) -> None:
    both = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    (tmp_path / "registries.json").write_text(
        json.dumps({"auths": {private.address: {"auth": both}}})
    )

    async def scenario() -> None:
        async with docker_world(private.host, tmp_path) as world, away("127.0.0.1") as down:
            await world.create(pod("name", asks("No Name")))
            await world.create(pod("tag", asks(f"{private.address}/no/such:9")))
            await world.create(pod("down", asks(f"{down}/a:1")))
            found = await world.until("name", waits("InvalidImageName"))
            assert "couldn't parse image name" in waiting(found)["message"]
            await world.event(
                "name", "InspectFailed", 'Failed to apply default image tag "No Name"'
            )
            found = await world.until("tag", waits("ErrImagePull", "ImagePullBackOff"))
            assert "manifest unknown" in waiting(found)["message"]
            await world.event("down", "Failed", "Error: RegistryUnavailable")
            found = await world.until("down", waits("ImagePullBackOff"))
            assert 'Back-off pulling image "' in waiting(found)["message"]
            assert "RegistryUnavailable" in waiting(found)["message"]

    in_host(private.host, scenario(), 120)
