"""How events reach the connections of watches: by callback, in turns, waiting for slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp

from meshkube.control.apiserver import delivery
from meshkube.control.apiserver.delivery import Turns
from tests.support.asking import Asker

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


async def told(watch: aiohttp.ClientResponse, count: int) -> list[Any]:
    """The next events of a stream, however long."""
    async with asyncio.timeout(30):
        return [
            json.loads(await watch.content.readline(max_line_length=2**21)) for _ in range(count)
        ]


async def test_what_is_due_is_called_in_order_with_turns_for_others() -> None:
    turns, called = Turns(), []

    def work(number: int) -> None:
        called.append(f"work {number}")
        end = asyncio.get_running_loop().time() + delivery.TURN_SECONDS * 1.5
        while asyncio.get_running_loop().time() < end:
            pass

    def others() -> None:
        called.append("others")

    for number in range(2):
        turns.add(lambda number=number: work(number))
    asyncio.get_running_loop().call_soon(others)
    while len(called) < 3:
        await asyncio.sleep(0)
    assert called == ["work 0", "others", "work 1"]
    turns.add(lambda: called.append("more"))
    await asyncio.sleep(0)
    assert called[-1] == "more"


async def test_every_watcher_sees_every_change_in_order(ask: Asker) -> None:
    one = f"{MAPS}?watch=1&fieldSelector=metadata.name%3Da"
    merge = {"Content-Type": "application/merge-patch+json"}
    async with contextlib.AsyncExitStack() as stack:
        paths = (f"{MAPS}?watch=1", one, one)
        watches = [await stack.enter_async_context(ask("GET", path)) for path in paths]
        made = await ask.make(MAPS, config_map("a"))
        changes = (
            ask.json("PATCH", f"{MAPS}/a", body={"data": {f"k{number}": "v"}}, headers=merge)
            for number in range(20)
        )
        await asyncio.gather(*changes)
        all_seen = [await told(watch, 21) for watch in watches]
    for seen in all_seen:
        assert seen[0] == {"type": "ADDED", "object": made}
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
        assert versions == sorted(set(versions))
        assert len(seen[-1]["object"]["data"]) == 20


async def test_who_reads_late_gets_all_in_order(ask: Asker) -> None:
    big = {"data": {"big": "x" * 500_000}}
    async with ask("GET", f"{MAPS}?watch=1") as watch:
        for number in range(30):  # 15 MB: more than sockets and transports hold
            await ask.make(MAPS, config_map(f"m{number:02d}", **big))
        await ask.make(MAPS, config_map("z"))
        seen = [event["object"]["metadata"]["name"] for event in await told(watch, 31)]
        assert seen == [*(f"m{number:02d}" for number in range(30)), "z"]
        await ask.make(MAPS, config_map("after"))
        (event,) = await told(watch, 1)
        assert event["object"]["metadata"]["name"] == "after"
