"""What Ingresses say of where they are reached, with several ingresses on one API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.nodes import INGRESS_KEY
from meshkube.client.base import Client
from meshkube.client.informer import Informers
from meshkube.ingress.controller import Ingress
from meshkube.ingress.settings import Settings
from meshkube.ingress.status import Status, answers_at
from tests.support.api import running_api
from tests.support.ingress import ingress, path

PATIENCE = 60.0


def node(name: str, *addresses: tuple[str, str], ready: str = "True", runs: str = "true") -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {INGRESS_KEY: runs}},
        "status": {
            "addresses": [{"type": type_, "address": address} for type_, address in addresses],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


INSIDE, OUTSIDE, SIX = ("InternalIP", "10.0.0.5"), ("ExternalIP", "192.0.2.5"), "2001:db8::5"


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (node("a", INSIDE), ("10.0.0.5",)),
        (node("a", INSIDE, OUTSIDE), ("192.0.2.5",)),
        (node("a", ("InternalIP", SIX), INSIDE), ("10.0.0.5", SIX)),
        (node("a", ("Hostname", "a")), ()),
        (node("a", INSIDE, ready="Unknown"), ()),
        (node("a", INSIDE, runs="false"), ()),
        ({"metadata": {"name": "other"}}, ()),
    ],
)
def test_where_the_ingress_of_a_node_answers(one: Any, wanted: tuple[str, ...]) -> None:
    assert answers_at(one) == wanted


async def reporting(api: Client, own: str, nodes: bool) -> None:
    """What an ingress at this address does with Ingresses, and nothing else."""
    informers, wake = Informers(api), asyncio.Event()
    found = informers.of(kinds.INGRESS)
    status = Status(api, lambda: [own], wake.set)
    if nodes:
        status.follow(informers.of(kinds.NODE))
    found.subscribe(lambda old, new: wake.set())
    async with asyncio.TaskGroup() as group:
        group.create_task(informers.run())
        while True:
            await wake.wait()
            wake.clear()
            for one in found.list():
                await status.write(meta.key(one), one)


@contextlib.asynccontextmanager
async def running(api: Client, *own: str, nodes: bool) -> AsyncIterator[None]:
    """An ingress at each of these addresses."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reporting(api, address, nodes)) for address in own]
        yield
        for task in tasks:
            task.cancel()


async def reached_at(api: Client, *, rest: float = 0) -> list[str]:
    """The Ingress' addresses; with `rest` once its status was left alone for so long."""
    async with asyncio.timeout(PATIENCE):
        while True:
            before = await api.get(kinds.INGRESS, "web", "shop")
            await asyncio.sleep(rest)
            now = await api.get(kinds.INGRESS, "web", "shop")
            listed = now.get("status", {}).get("loadBalancer", {}).get("ingress") or []
            same = meta.resource_version(before) == meta.resource_version(now)
            if not rest or (listed and same):
                return [one["ip"] for one in listed]


async def becomes(api: Client, wanted: list[str]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await reached_at(api) != wanted:
            await asyncio.sleep(0.02)


async def given(api: Client) -> None:
    shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
    await api.create(kinds.NAMESPACE, shop)
    await api.create(kinds.INGRESS, ingress("web", {"shop.io": [path("/", "user")]}))


async def test_it_lists_each_ready_node_that_runs_an_ingress(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await given(api)
        first, second = node("a", INSIDE), node("b", ("InternalIP", "10.0.0.12"))
        await api.create(kinds.NODE, first)
        async with running(api, "10.0.0.5", "10.0.0.12", nodes=True):
            await becomes(api, ["10.0.0.5"])
            await api.create(kinds.NODE, second)
            await becomes(api, ["10.0.0.5", "10.0.0.12"])
            assert await reached_at(api, rest=1) == ["10.0.0.5", "10.0.0.12"]
            lost = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
            await api.patch(kinds.NODE, "a", lost, subresource="status", type="strategic")
            await becomes(api, ["10.0.0.12"])


async def test_ingresses_that_know_nothing_of_each_other_do_not_write_without_end(
    tmp_path: Path,
) -> None:
    async with running_api(tmp_path) as api:
        await given(api)
        async with running(api, "10.0.0.5", "10.0.0.12", nodes=False):
            assert await reached_at(api, rest=1) in (["10.0.0.5"], ["10.0.0.12"])
            # What somebody took away comes back.
            await api.patch(
                kinds.INGRESS, "web", {"status": {"loadBalancer": None}}, "shop",
                subresource="status", type="merge",
            )  # fmt: skip
            assert await reached_at(api, rest=1) in (["10.0.0.5"], ["10.0.0.12"])


async def test_the_whole_part_follows_nodes(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api, asyncio.TaskGroup() as group:
        await given(api)
        part = Ingress(
            client=api, http_port=0, https_port=0, host="127.0.0.1", addresses=["192.0.2.7"],
            settings=Settings(drain_timeout=1), nodes=True,
        )  # fmt: skip
        task = group.create_task(part.run(lambda: None))
        await becomes(api, ["192.0.2.7"])
        await api.create(kinds.NODE, node("a", INSIDE))
        await becomes(api, ["10.0.0.5"])
        task.cancel()
