"""A WebSocket of a client in HTTP/2: one stream and one connection to a pod, joined as pipes.

The client asks by an extended CONNECT (RFC 8441); the pod is asked for an upgrade, as always in
HTTP/1.1. Once it has agreed, the stream's frames carry what the pod's connection carries.
"""

from __future__ import annotations

import base64
import hashlib
import os
from time import monotonic
from typing import TYPE_CHECKING

from meshkube.ingress.http2_errors import ErrorCodes, H2Error
from meshkube.ingress.http2_flow import Stream
from meshkube.ingress.http2_outbox import Outbox

if TYPE_CHECKING:
    from meshkube.ingress.hpack import Headers
    from meshkube.ingress.http2 import Http2Connection
    from meshkube.ingress.upstream import Upstream

AHEAD = 131_072
"""Bytes from the pod that may wait for the client before the pod is held back."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key() -> bytes:
    """What an upgrade in HTTP/1.1 needs, and the extended CONNECT does not have (RFC 6455, 4.1)."""
    return base64.b64encode(os.urandom(16))


def accepts(key: bytes, answer: bytes) -> bool:
    """Whether a pod's `Sec-WebSocket-Accept` is the answer to a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()) == answer


class Http2Tunnel(Stream["Http2Connection"]):
    """Takes the place of the request among its connection's streams, and that of the client's
    transport at the pod's connection."""

    def __init__(self, connection: Http2Connection, number: int, upstream: Upstream) -> None:
        super().__init__(connection, number)
        self._upstream = upstream
        self._outbox = Outbox()
        self._ended = False
        """The pod has said all."""
        self._client_ended = 0.0
        """When the client had; 0: it has not."""
        self._over = False
        self._holding = False
        upstream.peer = self

    # What the client says

    def body(self, data: bytes, size: int, ended: bool) -> None:
        """Some of its frames' content, perhaps the end; `size` is what it takes of the window."""
        upstream = self._upstream
        if data:
            upstream.last_byte = monotonic()
            upstream.transport.write(data)
        self._passed(size)
        if ended:
            self.request_ended()

    def request_ended(self) -> None:
        """Nothing more comes from it; the pod may still have something to say."""
        self._client_ended = monotonic()
        transport = self._upstream.transport
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def request_trailers(self, headers: Headers) -> None:
        """A pipe has no place for them."""
        self.request_ended()

    # What the pod's connection says: to it this is a transport

    def write(self, data: bytes) -> None:
        if self._over:
            return
        self._outbox.add(data)
        self.push()
        self.link.flush_soon()

    def close(self) -> None:
        """The pod's connection has ended."""
        if not self._over:
            self._ended = True
            self.push()
            self.link.flush_soon()

    # What the connection asks

    def push(self) -> None:
        """Hands over as much as the windows let through."""
        if self._over:
            return
        try:
            if not self.link.write_paused:
                done = self._outbox.send(self.link.h2, self.number, self._ended)
                if done:
                    self._end(ErrorCodes.NO_ERROR)
                    return
        except H2Error:
            self.cancel()
            self.link.over(self)
            return
        self._balance()

    def pause(self) -> None:
        """The client's socket is full."""
        if not self._holding:
            self._holding = True
            self._upstream.transport.pause_reading()

    def _balance(self) -> None:
        full = self._outbox.size > AHEAD
        if full:
            self.pause()
        elif self._holding and not self.link.write_paused:
            self._holding = False
            self._upstream.transport.resume_reading()

    def check(self, now: float) -> None:
        """Ends a pipe in which nothing moves."""
        settings = self.link.proxy.settings
        silent = self._upstream.last_byte + settings.tunnel_timeout < now
        left = self._client_ended and self._client_ended + settings.body_timeout < now
        if silent or left:
            self.drain()

    def drain(self) -> None:
        self._end(ErrorCodes.CANCEL)

    def cancel(self) -> None:
        """The client is gone."""
        self._over = True
        self._outbox.clear()
        self._upstream.peer = None
        self._upstream.transport.close()

    def _end(self, code: ErrorCodes) -> None:
        self.cancel()
        # Where both sides have ended it, there is nothing to reset.
        self.link.reset(self.number, code)
        self.link.over(self)
