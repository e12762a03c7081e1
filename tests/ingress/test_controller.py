"""The whole part on the real API, in process."""

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from meshkube import metrics, pki
from meshkube.api import kinds
from meshkube.client.base import Client
from meshkube.ingress import controller
from meshkube.ingress.controller import Ingress
from meshkube.ingress.listener import CannotListen
from meshkube.ingress.settings import Settings
from tests.support.api import running_api
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    host_address,
    ingress,
    ingress_class,
    path,
    response,
    service,
    slice_,
)

GET = b"GET /user HTTP/1.1\r\nHost: shop.io\r\n\r\n"


PATIENCE = 60.0
"""Seconds for what takes a moment, where the machine has much other work."""


async def settled(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(api: Client, **options: Any) -> AsyncIterator[Ingress]:
    part = Ingress(
        client=api,
        http_port=0,
        https_port=0,
        host="127.0.0.1",
        addresses=["192.0.2.7"],
        settings=Settings(drain_timeout=1),
        **options,
    )
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(part.run(ready.set))
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
        try:
            yield part
        finally:
            task.cancel()


async def create(api: Client, kind: Any, obj: dict[str, Any]) -> dict[str, Any]:
    return await api.create(kind, obj)


async def shop(api: Client, *origins: Origin, **options: Any) -> None:
    """The namespace, a Service `user` with these pods, and an Ingress for it."""
    await create(
        api,
        kinds.NAMESPACE,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    )
    with contextlib.suppress(Exception):
        await create(api, kinds.INGRESS_CLASS, ingress_class())
    await create(api, kinds.SERVICE, service("user", [{"port": 80}]))
    for origin in origins:
        piece = slice_("user", [endpoint(origin.host)], origin.port, name=f"user-{origin.port}")
        await create(api, kinds.ENDPOINT_SLICE, piece)
    await create(
        api, kinds.INGRESS, ingress("web", {"shop.io": [path("/user", "user")]}, **options)
    )


async def ask(part: Ingress) -> Any:
    async with client(part.ports[0]) as c:
        return await c.ask(GET)


async def test_objects_in_the_api_become_routes_and_status(tmp_path: Path) -> None:
    async with (
        running_api(tmp_path) as api,
        Origin(host=host_address()) as origin,
        running(api) as part,
    ):
        assert (await ask(part)).status == 404
        await shop(api, origin)

        async def is_served() -> bool:
            return (await ask(part)).status == 200

        await settled(is_served)

        async def has_status() -> bool:
            found = await api.get(kinds.INGRESS, "web", "shop")
            wanted = [{"ip": "192.0.2.7"}]
            return (found.get("status") or {}).get("loadBalancer", {}).get("ingress") == wanted

        await settled(has_status)
        text = metrics.exposition().decode()
        assert 'meshkube_ingress_requests_total{code="200",host="shop.io"' in text
        assert "meshkube_ingress_request_seconds_bucket" in text
        await api.delete(kinds.ENDPOINT_SLICE, f"user-{origin.port}", "shop")

        async def is_gone() -> bool:
            answer = await ask(part)
            return answer.status == 503 and b"no endpoints" in answer.body

        await settled(is_gone)
        await api.delete(kinds.INGRESS, "web", "shop")

        async def is_unknown() -> bool:
            return (await ask(part)).status == 404

        await settled(is_unknown)
    assert "meshkube_ingress_requests" not in metrics.exposition().decode()


def tls_secret(name: str, authority: pki.Pair, host: str) -> dict[str, Any]:
    pair = pki.issue(authority, host, names=[host])
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "shop"},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


async def test_a_tls_secret_serves_its_host_as_soon_as_it_exists(tmp_path: Path) -> None:
    authority = pki.new_authority("test")
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    async with (
        running_api(tmp_path) as api,
        Origin(host=host_address()) as origin,
        running(api) as part,
    ):
        await shop(api, origin, tls=[{"hosts": ["shop.io"], "secretName": "cert"}])

        async def verified() -> bool:
            try:
                async with client(part.ports[1], ssl=context, server_hostname="shop.io") as c:
                    return (await c.ask(GET)).status == 200
            except ssl.SSLCertVerificationError:
                return False

        assert not await verified()
        await create(api, kinds.SECRET, tls_secret("cert", authority, "shop.io"))
        await settled(verified)


async def test_faults_become_events_on_the_ingress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "FAULT_LASTS", 0.2)
    async with running_api(tmp_path) as api, running(api):
        await shop(api, tls=[{"hosts": ["shop.io"], "secretName": "gone"}])
        other = ingress(
            "later", {"shop.io": [path("/user", "missing")]}, created="2036-01-01T00:00:00Z"
        )
        await asyncio.sleep(1.1)
        await create(api, kinds.INGRESS, other)

        async def events() -> set[tuple[str, str, str]]:
            found = await api.list(kinds.EVENT, "shop")
            return {(e["involvedObject"]["name"], e["reason"], e["message"]) for e in found.items}

        expected = {
            (
                "web",
                "CertificateUnusable",
                "secret shop/gone does not exist",
            ),
            ("later", "BackendMissing", "shop.io/user: service shop/missing not found"),
            ("later", "Conflict", "shop.io/user already belongs to the older Ingress shop/web"),
        }

        async def all_told() -> bool:
            return expected <= await events()

        await settled(all_told)
        # Pods that are merely not there yet are no fault.
        assert all(
            reason != "BackendMissing" for name, reason, _ in await events() if name == "web"
        )


async def test_what_was_known_is_served_while_the_api_is_away(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin(response(b"still here"), host_address()))
        api_stack = contextlib.AsyncExitStack()
        api = await api_stack.enter_async_context(running_api(tmp_path))
        part = await stack.enter_async_context(running(api))
        await shop(api, origin)

        async def is_served() -> bool:
            return (await ask(part)).status == 200

        await settled(is_served)
        logging.getLogger("meshkube").setLevel(logging.CRITICAL)
        stack.callback(logging.getLogger("meshkube").setLevel, logging.NOTSET)
        await api_stack.aclose()
        await asyncio.sleep(0.3)
        assert (await ask(part)).body == b"still here"


async def test_a_taken_port_fails_the_part_and_it_can_run_again(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, Origin() as origin:
        part = Ingress(client=api, http_port=origin.port, https_port=0, host="127.0.0.1")
        with pytest.raises(ExceptionGroup) as caught:
            await part.run(lambda: None)
        (error,) = caught.value.exceptions
        assert isinstance(error, CannotListen)
        assert f"port {origin.port} of 127.0.0.1 for http is taken by another process" in str(error)
        await origin.__aexit__()
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(part.run(ready.set))
            async with asyncio.timeout(10):
                await ready.wait()
            task.cancel()
