"""The ports that clients come in by."""

from __future__ import annotations

import asyncio
import errno
import socket

from meshkube import handover
from meshkube.ingress.certificates import Certificates
from meshkube.ingress.connection import Http1Connection
from meshkube.ingress.gate import Gate
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.tls_transport import TlsTransport

BACKLOG = 1024


class CannotListen(Exception):
    """A port that cannot be had; the message is a whole sentence."""


class Listener:
    """A port, on one or more addresses."""

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers
        self.port = int(servers[0].sockets[0].getsockname()[1])

    def close(self) -> None:
        """No new connections; those that are there go on."""
        for server in self._servers:
            server.close()


async def listen(
    proxy: Proxy, host: str | None, port: int, certificates: Certificates | None
) -> Listener:
    """Accepts HTTP, or with `certificates` HTTPS, on `port` (0: any) of `host` (None: all).
    Raises `CannotListen`."""
    loop = asyncio.get_running_loop()
    scheme = b"https" if certificates else b"http"
    bound = port

    def plain() -> asyncio.Protocol:
        if certificates is None:
            return Http1Connection(proxy, bound, scheme)
        return TlsTransport(proxy, certificates, bound)

    def gated() -> asyncio.Protocol:
        return Gate(proxy, plain)

    connection = gated if proxy.settings.proxy_protocol else plain
    try:
        sockets = sockets_for(host, port, scheme.decode())
        servers = [
            await loop.create_server(connection, sock=one, backlog=BACKLOG) for one in sockets
        ]
    except OSError as error:
        raise CannotListen(_sentence(scheme.decode(), host, port, error)) from None
    listener = Listener(servers)
    bound = listener.port
    return listener


def sockets_for(
    host: str | None, port: int, scheme: str, slot: int = 0, of: int = 1
) -> list[socket.socket]:
    """Sockets bound to a port, for one `of` several that share it. Raises `CannotListen`."""
    try:
        return handover.tcp(host, port, slot, of)
    except OSError as error:
        raise CannotListen(_sentence(scheme, host, port, error)) from None


def port_of(listener: Listener) -> int:
    """The port a listener really has."""
    return listener.port


def _sentence(scheme: str, host: str | None, port: int, error: OSError) -> str:
    where = f"port {port}" + (f" of {host}" if host else "")
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} for {scheme} is taken by another process: stop it, or set --ingress-{scheme}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} for {scheme} needs rights this process lacks: set --ingress-{scheme}"
    return f"{where} for {scheme} cannot be opened: {error.strerror or error}"
