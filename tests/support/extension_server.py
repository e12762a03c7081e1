"""An extension API server for tests: it answers whoever its front proxy says, and echoes.

`python -m tests.support.extension_server PORT CERTIFICATE KEY CLIENT_CA`; it insists on a client
certificate of CLIENT_CA that says `front-proxy-client`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

from aiohttp import web

GROUP, VERSION = "echo.example.com", "v1"
ROOT = f"/apis/{GROUP}/{VERSION}"
_VERBS = ["create", "delete", "get", "list", "watch"]


def _resource(name: str, kind: str, **more: object) -> dict[str, object]:
    return {"name": name, "kind": kind, "namespaced": True, "verbs": _VERBS, **more}


LISTED = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        _resource("echoes", "Echo", singularName="echo", shortNames=["ec"]),
        _resource("echoes/status", "Echo", singularName=""),
    ],
}


def echo(request: web.Request) -> dict[str, object]:
    """What was asked, as an object."""
    told = {name: request.headers.getall(name) for name in request.headers}
    peer = request.transport.get_extra_info("peercert") if request.transport else None
    about = {"name": request.match_info.get("name", "all"), "namespace": "default"}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Echo",
        "metadata": about,
        "spec": {"path": request.raw_path, "method": request.method, "headers": told},
        "status": {"certificate": str(peer)},
    }


async def listed(request: web.Request) -> web.Response:
    return web.json_response(LISTED)


async def one(request: web.Request) -> web.Response:
    return web.json_response(echo(request))


async def many(request: web.Request) -> web.StreamResponse:
    if request.query.get("watch") not in ("1", "true"):
        kind = {"kind": "EchoList", "apiVersion": f"{GROUP}/{VERSION}"}
        return web.json_response({**kind, "metadata": {}, "items": [echo(request)]})
    response = web.StreamResponse()
    await response.prepare(request)
    for type_ in ("ADDED", "MODIFIED"):
        event = {"type": type_, "object": echo(request)}
        await response.write(json.dumps(event).encode() + b"\n")
    await asyncio.sleep(600)
    return response


async def create(request: web.Request) -> web.Response:
    given = await request.json()
    return web.json_response({**echo(request), "metadata": given["metadata"]}, status=201)


def main(port: int, certificate: str, key: str, client_ca: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    echoes = ROOT + "/namespaces/{namespace}/echoes"
    app.router.add_get(ROOT, listed)
    app.router.add_get(echoes, many)
    app.router.add_post(echoes, create)
    app.router.add_route("*", echoes + "/{name}", one)
    web.run_app(app, port=port, ssl_context=context, print=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:5])
