"""HTTP requests to pods of this node, passed on for an API server that has no route to them."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from meshkube.node.runtime import Record
from meshkube.tunnel.forwarding import Forwarder, Target, Unreachable
from meshkube.tunnel.verifying import AUTHORITY, NAME, UNREACHABLE, Verify, unverified, verified

PATH = "/proxy/{namespace}/{pod}/{scheme}/{port}"
_SEGMENTS = 6
_OURS = frozenset({NAME.lower(), AUTHORITY.lower()})


class PodProxy:
    """`sandbox_of` finds the running sandbox that a request names."""

    def __init__(self, sandbox_of: Callable[[web.Request], Record]) -> None:
        self._sandbox_of = sandbox_of
        self._forwarder = Forwarder()
        self._tls = unverified()

    async def aclose(self) -> None:
        await self._forwarder.aclose()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Raises `HTTPException`."""
        scheme, port = request.match_info["scheme"], request.match_info["port"]
        if scheme not in ("http", "https") or not port.isdigit():
            raise web.HTTPBadRequest(text=f"not a scheme and a port: {scheme} {port}")
        # A pod on the host's network has no address of its own.
        address = self._sandbox_of(request).address or "127.0.0.1"
        path, mark, query = request.raw_path.partition("?")
        tail = "".join("/" + part for part in path.split("/")[_SEGMENTS:])
        url = f"{scheme}://{address}:{port}{tail or '/'}{mark}{query}"
        try:
            target = self._target(url, request) if scheme == "https" else Target(url)
            return await self._forwarder.forward(request, target)
        except Unreachable as error:
            reason = " ".join(str(error).split())
            return web.Response(status=503, text=reason, headers={UNREACHABLE: reason})

    def _target(self, url: str, request: web.Request) -> Target:
        """Verified where the API server says by what. Raises `Unreachable`."""
        verify = Verify.of(request.headers)
        if verify is None:
            return Target(url, self._tls)
        try:
            return Target(url, verified(verify.bundle), dropped=_OURS, name=verify.name)
        except ValueError as error:
            raise Unreachable(str(error)) from error
