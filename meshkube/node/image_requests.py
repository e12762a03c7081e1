"""The node server's `/images`: what is here, one as an archive, and an archive to be loaded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from meshkube.node.image_peers import ID_HEADER
from meshkube.node.images import Images
from meshkube.node.permission import is_master
from meshkube.node.runtime import ImageArchiveFailure, Runtime

SAVED_AT_ONCE = 4
"""Archives that go out at the same time; others wait."""


class ImageRequests:
    """Raises `RuntimeFailure` and `HTTPException`, like every handler of the server."""

    def __init__(self, runtime: Runtime, images: Images) -> None:
        self._runtime = runtime
        self._images = images
        self._places = asyncio.Semaphore(SAVED_AT_ONCE)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/images", self._list)
        router.add_get("/images/archive", self._save)
        router.add_post("/images", self._load)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        found = [
            {"id": image.id, "names": list(image.names), "size": image.size}
            for image in await self._images.listed()
        ]
        return web.json_response(body=orjson.dumps({"images": found}))

    async def _save(self, request: web.Request) -> web.StreamResponse:
        name = request.query.get("name", "")
        image = await self._runtime.image(name) if name else None
        if image is None:
            raise web.HTTPNotFound(text=f'image "{name}" is not on this node')
        if self._images.is_private(image.id) and not is_master(peer_certificate(request)):
            # Which of its pods may have it only the registry can say.
            raise web.HTTPNotFound(text=f'image "{name}" came with a pull secret')
        headers = {"Content-Type": "application/x-tar", ID_HEADER: image.id}
        response = web.StreamResponse(headers=headers)
        async with self._places:
            await response.prepare(request)
            try:
                # Who asked may hang up: the engine must not be left in the middle of an answer.
                async with contextlib.aclosing(self._runtime.save_image(name)) as pieces:
                    async for piece in pieces:
                        await response.write(piece)
            except BaseException:
                # Who reads must not take this for the end of the archive.
                if request.transport is not None:
                    request.transport.abort()
                raise
        await response.write_eof()
        return response

    async def _load(self, request: web.Request) -> web.StreamResponse:
        try:
            names = await self._images.load(_body(request))
        except ImageArchiveFailure as failure:
            raise web.HTTPBadRequest(text=str(failure)) from failure
        return web.json_response(body=orjson.dumps({"images": names}))


def peer_certificate(request: web.Request) -> Mapping[str, Any] | None:
    """Of who asks, as `ssl` describes one."""
    transport = request.transport
    return transport.get_extra_info("peercert") if transport is not None else None


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_any():
        yield piece
