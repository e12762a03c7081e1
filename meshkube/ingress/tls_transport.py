"""TLS between a socket's transport and a protocol: what asyncio's own does, with less around it.

A new connection costs mostly what OpenSSL costs. asyncio's and uvloop's TLS serve both ends of
every kind of connection; this serves the server's end of short answers: no timers or futures of
its own, and one write for each flight.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import Any, cast

from meshkube.ingress.certificates import Certificates, HostContext, shown
from meshkube.ingress.client_hello import incomplete
from meshkube.ingress.connection import Http1Connection
from meshkube.ingress.http2 import Http2Connection
from meshkube.ingress.proxy import Proxy

READ_AT_ONCE = 65536


class TlsTransport(asyncio.Protocol, asyncio.Transport):
    """The protocol of a socket, and the transport of the connection inside."""

    __slots__ = (
        "_certificates",
        "_closing",
        "_deadline",
        "_early",
        "_established",
        "_in",
        "_inner",
        "_out",
        "_paused",
        "_port",
        "_proxy",
        "_raw",
        "_tls",
        "source",
    )

    _inner: Http1Connection | Http2Connection
    _raw: asyncio.Transport
    _tls: ssl.SSLObject

    def __init__(self, proxy: Proxy, certificates: Certificates, port: int) -> None:
        asyncio.Transport.__init__(self)
        self._proxy = proxy
        self._port = port
        self.source: tuple[str, int] | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._certificates: Certificates | None = certificates
        """Until the first bytes say which of them is wanted."""
        self._early = b""
        """Those, while there are too few."""
        self._established = self._closing = self._paused = False
        self._deadline = 0.0

    # The socket's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._deadline = monotonic() + self._proxy.settings.head_timeout
        self._proxy.clients.add(self)
        if len(self._proxy.clients) > 2 * self._proxy.settings.max_connections:
            self._raw.abort()

    def data_received(self, data: bytes) -> None:
        if self._certificates is not None:
            data = self._early + data
            if incomplete(data):
                self._early = data
                return
            self._early = b""
            context = self._certificates.context_for(data)
            self._tls = context.wrap_bio(self._in, self._out, server_side=True)
            self._certificates = None
            if context.knows_from_before(data):
                self._resume_from_before(context, data)
                return
        self._in.write(data)
        if self._established or self._shake_hands():
            self._read()

    def pause_writing(self) -> None:
        if self._established:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._established:
            self._established = False
            self._inner.connection_lost(exc)
        else:
            self._proxy.gone(self)
            return
        # The two point at each other: without this the garbage collector would have to find out.
        del self._inner

    def _resume_from_before(self, context: HostContext, hello: bytes) -> None:
        """Begins with the ticket keys that the client's ticket was made with. The one it gets in
        return (in TLS 1.3 in a later step) is made with those of now."""
        context.use_tickets(context.tickets_before)
        try:
            self._in.write(hello)
            done = self._shake_hands()
        finally:
            context.use_tickets(context.tickets)
        if done:
            self._read()

    def _shake_hands(self) -> bool:
        """Goes on with the handshake; whether it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, OSError):
            # The alert that says why, then the end.
            self._flush()
            self._closing = True
            self._raw.close()
            return False
        self._established = True
        # Also in TLS 1.3, where only the session ticket waits: held back until the first answer, it
        # would leave the client's Nagle algorithm waiting for a delayed acknowledgement, 40 ms.
        self._flush()
        spoken = self._tls.selected_alpn_protocol()
        kind = Http2Connection if spoken == "h2" else Http1Connection
        self._inner = kind(self._proxy, self._port, b"https")
        self._inner.source = self.source
        self._inner.connection_made(self)
        self._proxy.clients.discard(self)
        return True

    def _read(self) -> None:
        """Hands on what has come, while the connection inside takes it."""
        tls, incoming = self._tls, self._in
        try:
            while not self._paused and not self._closing:
                data = tls.read(READ_AT_ONCE)
                if not data:
                    self.close()
                    return
                self._inner.data_received(data)
                if not incoming.pending and not tls.pending():
                    return
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close()
        except ssl.SSLError:
            self.abort()

    def _flush(self) -> None:
        if self._out.pending and not self._raw.is_closing():
            self._raw.write(self._out.read())

    # The calls of the connection inside

    def write(self, data: Any) -> None:
        if self._closing:
            return
        try:
            written = self._tls.write(data)
            if written < len(data):
                # One record at a time.
                view = memoryview(data)[written:]
                while view:
                    view = view[self._tls.write(view) :]
        except ssl.SSLError:
            self.abort()
            return
        self._raw.write(self._out.read())

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = cast(Http2Connection, protocol)

    def pause_reading(self) -> None:
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._raw.resume_reading()
        if self._in.pending or self._tls.pending():
            # Not at once: the caller may be in the middle of something.
            asyncio.get_running_loop().call_soon(self._read)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "client_certificate":
            return shown(self._tls)
        return self._raw.get_extra_info(name, default)

    def close(self) -> None:
        """Sends what is left and the end of TLS, and closes."""
        if self._closing:
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            # It wants the client's answer, for which nobody waits (RFC 8446, section 6.1).
            pass
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    # What the proxy asks, until the handshake is done

    def check(self, now: float) -> None:
        if self._deadline < now:
            self._raw.abort()

    def drain(self) -> None:
        self._raw.abort()
