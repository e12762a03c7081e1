"""Connections in memory, for conversations between two ends."""

from __future__ import annotations

import asyncio


class MemoryPipe:
    """One end of a `meshkube.tunnel.pipe.Pipe`; each way holds at most a few pieces."""

    def __init__(self, inward: asyncio.Queue[bytes], outward: asyncio.Queue[bytes]) -> None:
        self._inward = inward
        self._outward = outward
        self._ended = False
        self.closed = False
        self.written = 0

    async def read(self) -> bytes:
        if self._ended:
            return b""
        data = await self._inward.get()
        self._ended = not data
        return data

    async def write(self, data: bytes) -> None:
        if self.closed or self._ended:
            raise ConnectionResetError("the other end is closed")
        if data:
            await self._outward.put(data)
            self.written += len(data)

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self._outward.put(b"")


def pipe_pair(pieces: int = 64) -> tuple[MemoryPipe, MemoryPipe]:
    """Two ends; each direction waits once it holds `pieces` that nobody has read."""
    there: asyncio.Queue[bytes] = asyncio.Queue(pieces)
    back: asyncio.Queue[bytes] = asyncio.Queue(pieces)
    return MemoryPipe(there, back), MemoryPipe(back, there)
