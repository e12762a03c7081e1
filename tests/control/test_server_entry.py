"""Who is an endpoint of default/kubernetes: each server that lives, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.client.base import Client
from meshkube.control import server_endpoints as entries
from meshkube.control.server_entry import DURATION, EVERY, ServerEntry
from tests.control.test_election import StepClock
from tests.support.api import running_api


def lease(name: str, place: tuple[str, int], renewed: str):
    return entries.lease(name, place, 9, renewed)


def test_a_server_that_does_not_renew_is_dead_by_our_own_clock():
    watchful = entries.Watchful()
    a, b = lease("a", ("192.0.2.1", 6443), "t1"), lease("b", ("192.0.2.2", 6443), "long ago")
    assert watchful.living([a, b], 0.0) == ([("192.0.2.1", 6443), ("192.0.2.2", 6443)], [])
    a = lease("a", ("192.0.2.1", 6443), "t2")
    assert watchful.living([a, b], 9.0)[0] == [("192.0.2.1", 6443), ("192.0.2.2", 6443)]
    assert watchful.living([a, b], 9.1) == ([("192.0.2.1", 6443)], [b])


def test_servers_on_several_ports_and_families_get_a_slice_each():
    made = list(entries.objects([("192.0.2.1", 6443), ("2001:db8::1", 6443), ("192.0.2.2", 7443)]))
    assert [kind.kind for kind, _ in made] == ["Endpoints", *["EndpointSlice"] * 3]
    slices = {meta.name(obj): obj for kind, obj in made if kind is kinds.ENDPOINT_SLICE}
    assert set(slices) == {"kubernetes", "kubernetes-ipv6-6443", "kubernetes-ipv4-7443"}
    assert slices["kubernetes-ipv6-6443"]["addressType"] == "IPv6"


@contextlib.asynccontextmanager
async def server(
    client: Client, name: str, address: str, clock: StepClock
) -> AsyncIterator[asyncio.Task[None]]:
    entry = ServerEntry(client=client, node_name=name, place=(address, 6443), clock=clock)
    task = asyncio.create_task(entry.run(lambda: None))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def addresses(client: Client) -> list[str]:
    slice = await client.get(kinds.ENDPOINT_SLICE, "kubernetes", "default")
    endpoints = await client.get(kinds.ENDPOINTS, "kubernetes", "default")
    found = [one["addresses"][0] for one in slice["endpoints"]]
    assert [one["ip"] for one in endpoints["subsets"][0]["addresses"]] == found
    return found


async def turn(clock: StepClock) -> None:
    await clock.step(EVERY)
    await asyncio.sleep(0.05)


async def test_two_servers_are_there_until_one_falls_silent_or_takes_leave(tmp_path: Path):
    clock = StepClock()
    async with running_api(tmp_path, alone=False) as client:
        async with server(client, "a", "192.0.2.1", clock):
            async with server(client, "b", "192.0.2.2", clock):
                await turn(clock)
                await turn(clock)
                assert await addresses(client) == ["192.0.2.1", "192.0.2.2"]
            # It ended as it should: it said so.
            assert await addresses(client) == ["192.0.2.1"]
            await client.create(
                kinds.LEASE, lease("c", ("192.0.2.3", 6443), meta.micro_timestamp(clock.now()))
            )
            await turn(clock)
            assert await addresses(client) == ["192.0.2.1", "192.0.2.3"]
            for _ in range(DURATION // int(EVERY) + 2):
                await turn(clock)
            assert await addresses(client) == ["192.0.2.1"]
            left = await client.list(
                kinds.LEASE, "kube-system", labels="apiserver.kubernetes.io/identity"
            )
            assert [meta.name(one) for one in left.items] == ["apiserver-a"]
        # The last one to go leaves its address.
        assert await addresses(client) == ["192.0.2.1"]
