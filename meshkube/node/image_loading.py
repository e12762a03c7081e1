"""Images put on the nodes of a cluster through its API, and listed there: no registry is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import quote

import orjson

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from meshkube.node.docker_admin import pieces

AT_ONCE = 8
"""Nodes that get an archive at the same time."""

Sent = Callable[[str, int], None]
"""Told a node's name and how many bytes of the archive it has got."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it on one node: `failure` says why not, or is empty."""

    node: str
    names: tuple[str, ...] = ()
    seconds: float = 0.0
    failure: str = ""


async def node_names(client: HttpClient, wanted: Sequence[str]) -> list[str]:
    """All nodes, or those that are `wanted`. Raises `ApiError` 404 for one that there is not."""
    found = [meta.name(node) for node in (await client.list(kinds.NODE)).items]
    for name in wanted:
        if name not in found:
            raise ApiError(404, "NotFound", f'nodes "{name}" not found')
    return sorted(wanted or found)


async def load(
    client: HttpClient, nodes: Sequence[str], archive: Path, sent: Sent
) -> AsyncIterator[Outcome]:
    """The outcome of each node, as it comes. A failure on one keeps no other from it."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(node: str) -> Outcome:
        async with places:
            return await _load(client, node, archive, sent)

    tasks = [asyncio.ensure_future(one(node)) for node in nodes]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _load(client: HttpClient, node: str, archive: Path, sent: Sent) -> Outcome:
    begun = monotonic()

    async def counted() -> AsyncIterator[bytes]:
        count = 0
        async for piece in pieces(archive):
            yield piece
            count += len(piece)
            sent(node, count)

    try:
        answer = orjson.loads(await client.send(_path(node), counted()))
    except (ApiError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Outcome(node, failure=reason)
    return Outcome(node, tuple(answer["images"]), monotonic() - begun)


async def listed(client: HttpClient, node: str) -> list[Object]:
    """What a node has: `id`, `names`, `size` of each. Raises `ApiError`."""
    images: list[Object] = orjson.loads(await client.get_raw(_path(node)))["images"]
    return images


def _path(node: str) -> str:
    return f"/api/v1/nodes/{quote(node)}/proxy/images"
