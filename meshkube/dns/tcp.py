"""DNS over TCP: queries with a length in front, as many as an asker likes, answered as they are
ready (RFC 7766)."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import Counter

from meshkube.dns.answering import Answerer

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 500
MOST_OF_ONE_CLIENT = 50
IDLE_SECONDS = 10.0
# A query is a name and little more; nobody sends so much.
LONGEST_QUERY = 4096


class Streams:
    """The connections of one listener."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._clients: Counter[str] = Counter()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection until it falls idle."""
        client = str((writer.get_extra_info("peername") or ("",))[0])
        self._clients[client] += 1
        try:
            if self._clients[client] <= MOST_OF_ONE_CLIENT and self._total() <= MOST_CONNECTIONS:
                async with asyncio.TaskGroup() as group:
                    await self._converse(reader, writer, group)
        except (OSError, EOFError, TimeoutError, ExceptionGroup):
            log.debug("connection ended early")
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            writer.close()

    def _total(self) -> int:
        return self._clients.total()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
    ) -> None:
        def reply(message: bytes) -> None:
            writer.write(struct.pack("!H", len(message)) + message)

        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    if length > LONGEST_QUERY:
                        return
                    packet = await reader.readexactly(length)
                    await writer.drain()
            except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                return
            self._answerer.take(packet, reply, group, tcp=True)
