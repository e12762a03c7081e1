"""Upgraded requests (WebSocket, SPDY), passed on to a node as they are: bytes both ways."""

from __future__ import annotations

import ssl

from aiohttp import web

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.control.apiserver.http import Call
from meshkube.control.apiserver.identity import SOCKET_BEARER
from meshkube.tunnel.accepting import accept
from meshkube.tunnel.dialing import Dialled, dial
from meshkube.tunnel.pipe import both_ways

_SENT = (
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
    "X-Stream-Protocol-Version",
)
_ANSWERED = (
    "upgrade",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
)


def wants_upgrade(call: Call) -> bool:
    """Whether the client asks to change the protocol of its connection."""
    named = [one.strip().lower() for one in call.header("Connection").split(",")]
    return "upgrade" in named and bool(call.header("Upgrade"))


async def tunnel(call: Call, url: str, tls: ssl.SSLContext) -> web.StreamResponse:
    """Raises `ApiError` before the answer starts; after that, returns once either side ended."""
    try:
        node = await dial(url, tls, call.method, _headers(call))
    except OSError as error:
        raise unreachable(url, error) from error
    if node.status != 101:
        raise refused(node.status, node.body)
    try:
        client = await accept(call.request, _answer(node))
        call.started = True
        await both_ways(client, node.pipe)
    finally:
        await node.pipe.close()
    return client.response


def _headers(call: Call) -> list[tuple[str, str]]:
    headers = [("Connection", "Upgrade")]
    for name in _SENT:
        headers += [(name, value) for value in call.request.headers.getall(name, [])]
    kept = sub_protocols(call)
    if kept:
        headers.append(("Sec-WebSocket-Protocol", kept))
    return headers


def sub_protocols(call: Call) -> str:
    """Those that the client offers, but for a browser's token: who asks was settled here, and what
    it is known by is nobody else's to see."""
    offered = [one.strip() for one in call.header("Sec-WebSocket-Protocol").split(",")]
    return ", ".join(one for one in offered if one and not one.startswith(SOCKET_BEARER))


def _answer(node: Dialled) -> dict[str, str]:
    return {name: value for name, value in node.headers if name.lower() in _ANSWERED}


def refused(status: int, content: bytes) -> ApiError:
    """What a node answered instead, as a Status."""
    text = content.decode(errors="replace").strip()
    if status == 404:
        return ApiError(404, "NotFound", text or "the node has no such container")
    if status in (400, 403):
        return errors.bad_request(text)
    return errors.internal(f"the node answered {status}: {text}")


def unreachable(url: str, error: BaseException) -> ApiError:
    """500 for a node that does not answer."""
    host = url.split("/")[2]
    reason = str(error) or type(error).__name__
    return errors.internal(f"error dialing the node at {host}: {reason}")
