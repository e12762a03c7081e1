"""Listener workers: real processes behind real ports, told by the part on the real API."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube import handover, metrics
from meshkube.api import kinds
from meshkube.client.base import Client
from meshkube.ingress.controller import Ingress
from meshkube.ingress.settings import Settings
from meshkube.ingress.worker_wire import Reader, encoded, settings_in, settings_out
from tests.ingress.test_controller import settled
from tests.ingress.test_tls import secret, trusting
from tests.support.api import running_api
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    host_address,
    ingress,
    path,
    response,
    service,
    slice_,
)

GET = b"GET /user HTTP/1.1\r\nHost: shop.io\r\n\r\n"


@contextlib.asynccontextmanager
async def working(api: Client, workers: int) -> AsyncIterator[Ingress]:
    part = Ingress(
        client=api, http_port=0, https_port=0, host="127.0.0.1", addresses=["192.0.2.7"],
        settings=Settings(drain_timeout=2), workers=workers,
    )  # fmt: skip
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(part.run(ready.set))
        async with asyncio.timeout(60):
            await ready.wait()
        try:
            yield part
        finally:
            running.cancel()


async def status_of(port: int, **ssl_options: Any) -> int:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with client(port, **ssl_options) as c:
            return (await c.ask(GET)).status
    return 0


def children() -> list[int]:
    own = os.getpid()
    found = Path(f"/proc/{own}/task").glob("*/children")
    return [int(each) for path in found for each in path.read_text().split()]


def workers_of() -> list[int]:
    found = []
    for pid in children():
        with contextlib.suppress(OSError):
            if b"meshkube.ingress.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


async def test_workers_serve_what_the_daemon_knows_and_are_replaced(tmp_path: Path) -> None:
    async with Origin(response(b"one"), host_address()) as one, running_api(tmp_path) as api:
        await api.create(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
        for each in (service("web"), service("other")):
            await api.create(kinds.SERVICE, each, "shop")
        pods = [endpoint(one.host)]
        await api.create(kinds.ENDPOINT_SLICE, slice_("web", pods, one.port), "shop")
        await api.create(kinds.ENDPOINT_SLICE, slice_("other", pods, one.port), "shop")
        async with working(api, 2) as part:
            port, secure = part.ports
            assert await status_of(port) == 404
            tls = [{"hosts": ["shop.io"], "secretName": "shop"}]
            rule = ingress("web", {"shop.io": [path("/user", "web")]}, tls=tls)
            await api.create(kinds.INGRESS, rule, "shop")
            await api.create(kinds.SECRET, secret("shop", "shop.io"), "shop")
            # Every worker knows: there are two, and the kernel deals connections out.
            await settled(lambda: all_200(port))
            options = {"ssl": trusting(), "server_hostname": "shop.io"}
            await settled(lambda: is_status(secure, 200, **options))

            async def written() -> bool:
                found = await api.get(kinds.INGRESS, "web", "shop")
                return bool((found["status"].get("loadBalancer") or {}).get("ingress"))

            await settled(written)
            # A rule for a Service whose pods were nobody's business before.
            more = ingress("more", {"shop.io": [path("/more", "other")]})
            await api.create(kinds.INGRESS, more, "shop")
            await settled(lambda: is_status(port, 200, path=b"/more"))
            # One dies: the other serves, and it is replaced with all that is known.
            first, second = workers_of()
            os.kill(first, signal.SIGKILL)
            await settled(lambda: len(workers_of()) == 2 and first not in workers_of())
            assert second in workers_of()
            await settled(lambda: all_200(port))
            # What they count is added up here.
            await settled(lambda: counted() >= 10)
        await settled(lambda: not workers_of())
        assert await status_of(port) == 0


async def all_200(port: int) -> bool:
    return all([await status_of(port) == 200 for _ in range(10)])


async def is_status(port: int, wanted: int, path: bytes = b"/user", **options: Any) -> bool:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with client(port, **options) as c:
            return (await c.ask(GET.replace(b"/user", path))).status == wanted
    return False


def counted() -> float:
    labels = {"ingress": "shop/web", "host": "shop.io", "path": "/user"}
    for family in metrics.REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "meshkube_ingress_requests_total" and (
                labels.items() <= sample.labels.items() and sample.labels["code"] == "200"
            ):
                return sample.value
    return 0.0


@given(st.lists(st.text(max_size=50), max_size=8), st.integers(1, 40))
def test_messages_come_whole_however_they_are_split(texts: list[str], step: int) -> None:
    data = b"".join(encoded({"text": text}) for text in texts)
    reader = Reader()
    found = [
        message["text"]
        for at in range(0, len(data), step)
        for message in reader.feed(data[at : at + step])
    ]
    assert found == texts


def test_settings_pass_unchanged() -> None:
    given = Settings(trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
    (message,) = Reader().feed(encoded({"settings": settings_out(given)}))
    assert settings_in(message["settings"]) == given


def test_sockets_of_a_port_are_handed_over_for_more_and_for_fewer_workers() -> None:
    kept = handover.Handover()
    kept.begin({})
    stream = socket.SOCK_STREAM
    first = kept.opened(stream, "127.0.0.1", 0)
    port = first.getsockname()[1]
    first.listen()
    second = kept.opened(stream, "127.0.0.1", port, 1, 2)
    second.listen()
    left = kept.pass_on({})[handover.VARIABLE].split(",")
    assert len(left) == 2
    kept.opened(stream, "127.0.0.1", port).close()
    assert len(kept.pass_on({})[handover.VARIABLE].split(",")) == 1
    kept.end()
    for each in (first, second):
        each.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)
