"""Whose writes stand in line together, and whose never do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.levels import Level, Levels, level_of
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.auth.users import AUTHENTICATED, User, component
from tests.support.api import running_registry

NODE = component("system:node:n1")
PERSON = User("ann", (AUTHENTICATED,))


@pytest.mark.parametrize(
    ("kind", "user", "inside", "level"),
    [
        (kinds.LEASE, NODE, False, Level.LIVES),
        (kinds.NODE, NODE, False, Level.LIVES),
        (kinds.LEASE, None, True, Level.LIVES),
        (kinds.POD, NODE, False, Level.NODES),
        (kinds.EVENT, NODE, False, Level.NODE_EVENTS),
        (kinds.POD, None, True, Level.CONTROLLERS),
        (kinds.EVENT, None, True, Level.EVENTS),
        (kinds.POD, PERSON, False, Level.PEOPLE),
        (kinds.LEASE, PERSON, False, Level.PEOPLE),
        (kinds.POD, component("system:serviceaccount:shop:operator"), False, Level.PEOPLE),
    ],
)
def test_the_level_of_a_write(kind: Kind, user: User | None, inside: bool, level: Level) -> None:
    assert level_of(kind, user, inside=inside) is level


async def test_a_heartbeat_and_a_person_wait_for_no_bulk_work() -> None:
    levels = Levels()
    async with asyncio.TaskGroup() as group:
        bulk = [
            group.create_task(levels.enter(kinds.POD, component(f"system:node:n{number}")))
            for number in range(200)
        ]
        await asyncio.sleep(0)
        assert not all(task.done() for task in bulk)
        (await asyncio.wait_for(levels.enter(kinds.LEASE, NODE), 1))()
        (await asyncio.wait_for(levels.enter(kinds.POD, PERSON), 1))()
        (await asyncio.wait_for(levels.enter(kinds.POD, None, inside=True), 1))()
        while bulk:
            done = [task for task in bulk if task.done()]
            assert done
            for task in done:
                bulk.remove(task)
                task.result()()
            await asyncio.sleep(0)


async def test_writes_in_this_process_have_places_and_give_them_back(tmp_path: Path) -> None:
    def config(name: str) -> Object:
        return {"metadata": {"name": name, "namespace": "default"}}

    async with running_registry(tmp_path) as registry:
        client = LocalClient(registry)
        taken = [
            await registry.levels.enter(kinds.POD, None, inside=True)
            for _ in range(Level.CONTROLLERS.value[1])
        ]
        writing = asyncio.create_task(client.create(kinds.CONFIG_MAP, config("a")))
        await asyncio.sleep(0.05)
        assert not writing.done()
        await client.list(kinds.CONFIG_MAP)  # reads wait for no write
        for leave in taken:
            leave()
        await writing
        for number in range(40):
            await client.create(kinds.CONFIG_MAP, config(f"a{number}"))
            await client.patch(kinds.CONFIG_MAP, f"a{number}", {"data": {"k": "v"}}, "default")
            await client.delete(kinds.CONFIG_MAP, f"a{number}", "default")
