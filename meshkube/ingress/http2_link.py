"""What HTTP/2 connections of clients and to pods do alike: their streams' words go out together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshkube.ingress.http2_codec import Codec
from meshkube.ingress.http2_errors import ErrorCodes, H2Error


class Http2Link(asyncio.Protocol):
    """One connection, of a client or to a pod."""

    transport: asyncio.Transport

    def __init__(self, codec: Codec) -> None:
        self.h2 = codec
        self.write_paused = False
        """The other side reads too slowly."""
        self._call_soon: Callable[[Callable[[], None]], object] = (
            asyncio.get_running_loop().call_soon
        )
        self._flushing = False

    def flush_soon(self) -> None:
        """`flush`, together with what other requests have to say in this turn of the loop: one
        record of TLS and one call into the kernel for all."""
        if not self._flushing:
            self._flushing = True
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Sends what has come together."""
        self._flushing = False
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def take(self, size: int, number: int) -> None:
        """So many bytes of a stream are dealt with: the other side may send as many more."""
        self.h2.acknowledge_received_data(size, number)

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Ends one stream by force, where it has not ended."""
        try:
            self.h2.reset_stream(number, code)
        except H2Error:
            return
