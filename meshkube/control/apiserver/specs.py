"""OpenAPI documents over HTTP: kept compressed, sent so where the client can, cached by hash."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web

from meshkube.api import openapi
from meshkube.control.apiserver.http import JSON, Call, answer, not_served
from meshkube.control.apiserver.negotiation import accept

_YEAR = 365 * 24 * 3600


async def v2(call: Call) -> web.StreamResponse:
    """`/openapi/v2`, in JSON or in the protobuf form that kubectl asks for."""
    asked = call.header("Accept")
    if openapi.PROTOBUF_ASKED in asked or openapi.PROTOBUF in asked:
        return await _document(call, "v2.pb", openapi.PROTOBUF)
    accept(call.header("Accept"), ("object",))
    return await _document(call, "v2", JSON)


async def v3(call: Call, group_version: str) -> web.StreamResponse:
    """`/openapi/v3`, or below it the document of one group and version. Raises `ApiError` 404."""
    accept(call.header("Accept"), ("object",))
    if not group_version:
        return await answer(call, await asyncio.to_thread(openapi.v3_index))
    if group_version not in openapi.group_versions():
        raise not_served()
    return await _document(call, group_version, JSON)


async def _document(call: Call, name: str, content_type: str) -> web.StreamResponse:
    # The first time a document is built, which takes a while.
    body = await asyncio.to_thread(openapi.gzipped, name)
    tag = openapi.etag(name)
    headers = {"ETag": f'"{tag}"', "Vary": "Accept, Accept-Encoding", "Cache-Control": "no-cache"}
    if call.query.get("hash") == tag:
        headers["Cache-Control"] = f"public, immutable, max-age={_YEAR}"
    if call.header("If-None-Match").strip('"') == tag:
        return web.Response(status=304, headers=headers)
    if "gzip" in call.header("Accept-Encoding"):
        headers |= {"Content-Type": content_type, "Content-Encoding": "gzip"}
        return web.Response(body=body, headers=headers)
    plain = await asyncio.to_thread(gzip.decompress, body)
    return web.Response(body=plain, headers={**headers, "Content-Type": content_type})
