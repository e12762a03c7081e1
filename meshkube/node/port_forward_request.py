"""The request of a port-forward: which framing the client speaks."""

from __future__ import annotations

from aiohttp import web

from meshkube.node.port_forward import (
    CHANNELS_PROTOCOLS,
    SPDY_PROTOCOL,
    TUNNEL_PROTOCOL,
    Connect,
    over_channels,
    over_spdy,
)
from meshkube.node.remote import SPDY, STREAM_VERSION, NoCommonProtocol, chosen_version
from meshkube.node.remote_socket import SocketPipe, accept_socket
from meshkube.tunnel.accepting import accept


async def answer_port_forward(request: web.Request, connect: Connect) -> web.StreamResponse:
    """Upgrades the connection and forwards until it ends. Raises `HTTPBadRequest`."""
    upgrade = request.headers.get("Upgrade", "")
    if upgrade.upper() == SPDY:
        try:
            version = chosen_version(request, (SPDY_PROTOCOL,))
        except NoCommonProtocol as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        connection = await accept(request, {"Upgrade": SPDY, STREAM_VERSION: version})
        await over_spdy(connection, connect)
        return connection.response
    if upgrade.lower() != "websocket":
        raise web.HTTPBadRequest(text=f"unable to upgrade: {upgrade or 'missing upgrade header'}")
    ports = _ports(request)
    socket = await accept_socket(request, (TUNNEL_PROTOCOL, *CHANNELS_PROTOCOLS))
    if socket.ws_protocol == TUNNEL_PROTOCOL:
        await over_spdy(SocketPipe(socket), connect)
    else:
        await over_channels(socket, ports, connect)
    return socket


def _ports(request: web.Request) -> list[int]:
    """The ports that the query names, one by one or with commas between. Raises
    `HTTPBadRequest`."""
    given = [*request.query.getall("port", []), *request.query.getall("ports", [])]
    texts = [text for one in given for text in one.split(",")]
    for text in texts:
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise web.HTTPBadRequest(text=f'query parameter "port" is not a port: "{text}"')
    return [int(text) for text in texts]
