"""OpenAPI documents over HTTP: kept compressed, sent so where the client can, cached by hash."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable

import orjson
from aiohttp import web

from meshkube.api import errors, openapi
from meshkube.control.apiserver.catalog import Catalog
from meshkube.control.apiserver.http import JSON, Call, answer
from meshkube.control.apiserver.negotiation import accept

_YEAR = 365 * 24 * 3600


class Specs:
    """The documents of what a catalog serves, made anew where that changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._generation = 0
        self._documents = openapi.Documents(())

    def _current(self) -> openapi.Documents:
        if self._generation != self._catalog.generation:
            self._generation = self._catalog.generation
            self._documents = openapi.Documents(self._catalog.kinds)
        return self._documents

    async def v2(self, call: Call) -> web.StreamResponse:
        """`/openapi/v2`, in JSON or in the protobuf form that kubectl asks for."""
        asked = call.header("Accept")
        if openapi.PROTOBUF_ASKED in asked or openapi.PROTOBUF in asked:
            return await self._document(call, "v2.pb", openapi.PROTOBUF)
        accept(call.header("Accept"), ("object",))
        return await self._document(call, "v2", JSON)

    async def v3(
        self, call: Call, group_version: str, others: Iterable[str] = ()
    ) -> web.StreamResponse:
        """`/openapi/v3`, or below it the document of one group and version; `others` are those
        that other servers answer for. Raises `ApiError` 404."""
        accept(call.header("Accept"), ("object",))
        documents = self._current()
        if not group_version:
            return await answer(call, _with(await asyncio.to_thread(documents.index), others))
        if group_version not in documents:
            raise errors.not_served()
        return await self._document(call, group_version, JSON)

    async def _document(self, call: Call, name: str, content_type: str) -> web.StreamResponse:
        documents = self._current()
        tag = await asyncio.to_thread(documents.etag, name)
        headers = {
            "ETag": f'"{tag}"',
            "Vary": "Accept, Accept-Encoding",
            "Cache-Control": "no-cache",
        }
        if call.query.get("hash") == tag:
            headers["Cache-Control"] = f"public, immutable, max-age={_YEAR}"
        if call.header("If-None-Match").strip('"') == tag:
            return web.Response(status=304, headers=headers)
        # The first time a document is built, which takes a while.
        body = await asyncio.to_thread(documents.gzipped, name)
        if "gzip" in call.header("Accept-Encoding"):
            headers |= {"Content-Type": content_type, "Content-Encoding": "gzip"}
            return web.Response(body=body, headers=headers)
        plain = await asyncio.to_thread(gzip.decompress, body)
        return web.Response(body=plain, headers={**headers, "Content-Type": content_type})


def _with(index: bytes, others: Iterable[str]) -> bytes:
    more = {one: {"serverRelativeURL": f"/openapi/v3/{one}"} for one in others}
    if not more:
        return index
    found = orjson.loads(index)
    return orjson.dumps({**found, "paths": {**found["paths"], **more}})
