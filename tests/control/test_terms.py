"""Leaders that lose the store while they write: at no moment do two of them write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.client.events import EventRecorder
from meshkube.clock import SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.election import Election
from meshkube.control.fence import Fence
from tests.support import etcd, leaders
from tests.support.api import running_registry
from tests.support.leaders import FENCE, HEAD, LEASE, Put, check
from tests.support.link import Link

PATIENCE = 60.0


def lease(holder: str) -> bytes:
    return b'{"spec":{"holderIdentity":"%b"}}' % holder.encode()


TERMS = [
    Put(1, LEASE, lease("a")),
    Put(1, FENCE, b"u 0 a"),
    Put(1, HEAD, b""),
    Put(2, HEAD, b"u 0 a"),
    Put(3, LEASE, lease("b")),
    Put(3, FENCE, b"u 1 b"),
    Put(3, HEAD, b""),
    Put(4, HEAD, b"u 1 b"),
]


def test_terms_that_follow_each_other_are_fine() -> None:
    report = check(TERMS)
    assert (report.terms, report.leader_writes, report.violations) == (
        ["u 0 a", "u 1 b"],
        2,
        [],
    )


@pytest.mark.parametrize(
    ("late", "why"),
    [
        (Put(5, HEAD, b"u 0 a"), "wrote in the term 'u 1 b'"),
        (Put(5, HEAD, b"u 0 a"), "wrote again after another one"),
        (Put(5, HEAD, b"u 1 a"), "wrote while 'b' held the Lease"),
    ],
)
def test_a_write_outside_of_its_term_is_found(late: Put, why: str) -> None:
    assert any(why in violation for violation in check([*TERMS, late]).violations)


class Contender:
    """A server whose leader writes as fast as it can."""

    def __init__(self, name: str, client: LocalClient, leading: LocalClient, fence: Fence) -> None:
        self.name = name
        self.client = client
        self._leading = leading
        self.written = 0
        clock = SystemClock()
        events = EventRecorder(client, "test", name, clock)
        self.election = Election(
            client=client, identity=name, clock=clock, events=events, fence=fence
        )

    async def run(self) -> None:
        await self.election.run(self._work)

    async def _work(self) -> None:
        """With more than one write under way."""
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(self._write(f"{self.name}-{number}"))

    async def _write(self, name: str) -> None:
        obj = {"metadata": {"name": name, "namespace": "default"}}
        number = 0
        while True:
            number += 1
            try:
                try:
                    patch = {"data": {"n": str(number)}}
                    await self._leading.patch(kinds.CONFIG_MAP, name, patch, "default")
                except ApiError as error:
                    if error.code != 404:
                        raise
                    await self._leading.create(kinds.CONFIG_MAP, obj)
                self.written += 1
            except ApiError:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def contenders(tmp_path: Path, links: list[Link]) -> AsyncIterator[list[Contender]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number, link in enumerate(links):
            await stack.enter_async_context(link)
            registry = await stack.enter_async_context(
                running_registry(tmp_path, etcd=f"etcd://127.0.0.1:{link.port}")
            )
            fence = Fence()
            found.append(
                Contender(
                    f"c{number}",
                    LocalClient(registry),
                    LocalClient(registry, fence=fence),
                    fence,
                )
            )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(one.run()) for one in found]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()


async def leader(found: list[Contender], but: Contender | None = None) -> Contender:
    """Who leads and has written since this was asked."""
    before = {one.name: one.written for one in found}
    async with asyncio.timeout(PATIENCE):
        while True:
            for one in found:
                if one is not but and one.election.leading and one.written > before[one.name]:
                    return one
            await asyncio.sleep(0.05)


@pytest.mark.skipif(etcd.ETCD is None, reason="etcd is not installed")
async def test_leaders_whose_links_to_the_store_break_never_write_at_once(tmp_path: Path) -> None:
    with etcd.etcd() as cluster:
        links = [Link(cluster.members[0].client_port) for _ in range(2)]
        async with contenders(tmp_path, links) as found:
            for turn in range(4):
                old = await leader(found)
                link = links[found.index(old)]
                # Requests are lost, or they arrive once the next leader is at work.
                link.cut() if turn == 1 else link.hold()
                await leader(found, but=old)
                link.heal()
                await asyncio.sleep(0.5)
        report = leaders.check(await leaders.history(cluster.url))
    assert report.violations == []
    assert len(report.terms) >= 5
    assert report.leader_writes > 100
