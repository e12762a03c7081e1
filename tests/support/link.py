"""A link to a port of this host that can break: a proxy for TCP, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib

LINGER_SECONDS = 0.5


class Link:
    """Use it with `async with`. Whole, cut (connections end, new ones are refused) or held (what is
    sent waits, in both directions, until the link heals: then it arrives, however late)."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self.port = 0

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """What was under way is lost."""
        self._refuses = True
        self._flows.set()
        for writer in self._open:
            writer.transport.abort()

    def hold(self) -> None:
        self._flows.clear()

    def heal(self) -> None:
        self._refuses = False
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            if self._refuses:
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(back)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(reader, back))
                    group.create_task(self._copy(there, writer))
            finally:
                self._open.discard(back)
                back.transport.abort()
        except (OSError, BaseExceptionGroup, asyncio.CancelledError):
            # An end of either side ends both; a server of asyncio's logs what is cancelled.
            return
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._flows.wait()
                if writer.transport.is_closing():
                    # Its client has left; what it had sent arrives all the same.
                    return
                writer.write(data)
                await writer.drain()
            # That its sender is gone is told well after the last bytes: they count.
            await self._flows.wait()
            await asyncio.sleep(LINGER_SECONDS)
            if writer.can_write_eof():
                writer.write_eof()
