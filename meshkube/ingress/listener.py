"""The ports that clients come in by."""

from __future__ import annotations

import asyncio
import errno

from meshkube.ingress.certificates import Certificates
from meshkube.ingress.connection import Http1Connection
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.tls_transport import TlsTransport

BACKLOG = 1024


class CannotListen(Exception):
    """A port that cannot be had; the message is a whole sentence."""


async def listen(
    proxy: Proxy, host: str | None, port: int, certificates: Certificates | None
) -> asyncio.Server:
    """Accepts HTTP, or with `certificates` HTTPS, on `port` (0: any) of `host` (None: all).
    Raises `CannotListen`."""
    loop = asyncio.get_running_loop()
    scheme = b"https" if certificates else b"http"
    bound = port

    def connection() -> asyncio.Protocol:
        if certificates is None:
            return Http1Connection(proxy, bound, scheme)
        return TlsTransport(proxy, certificates, bound)

    try:
        server = await loop.create_server(connection, host, port, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(_sentence(scheme.decode(), host, port, error)) from None
    bound = port_of(server)
    return server


def port_of(server: asyncio.Server) -> int:
    """The port a server really has."""
    return int(server.sockets[0].getsockname()[1])


def _sentence(scheme: str, host: str | None, port: int, error: OSError) -> str:
    where = f"port {port}" + (f" of {host}" if host else "")
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} for {scheme} is taken by another process: stop it, or set --ingress-{scheme}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where} for {scheme} needs rights this process lacks: set --ingress-{scheme}"
    return f"{where} for {scheme} cannot be opened: {error.strerror or error}"
