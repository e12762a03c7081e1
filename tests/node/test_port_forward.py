"""Port-forward over SPDY, as conversations: the client in memory, the pod on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from meshkube.node import spdy
from meshkube.node.pod_network import connect_directly
from meshkube.node.port_forward import over_spdy
from meshkube.node.spdy import Data, GoAway, Opened, Ping, Replied, Reset
from meshkube.tunnel.pipe import StreamPipe
from tests.support.pipes import MemoryPipe, pipe_pair

Pod = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Client:
    """Speaks SPDY and remembers, by stream, what it heard."""

    def __init__(self, pipe: MemoryPipe, port: int) -> None:
        self.pipe = pipe
        self.port = port
        self.others: list[spdy.Frame] = []
        self._encoder = spdy.Encoder()
        self._decoder = spdy.Decoder()
        self._heard: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._changed = asyncio.Event()
        self._next = 1
        self.ended = asyncio.Event()

    async def listen(self) -> None:
        while data := await self.pipe.read():
            for frame in self._decoder.feed(data):
                if isinstance(frame, Data):
                    self._heard.setdefault(frame.stream, bytearray()).extend(frame.data)
                    if frame.final:
                        self._ended.add(frame.stream)
                else:
                    self.others.append(frame)
                self._changed.set()
        self.ended.set()

    async def say(self, *frames: spdy.Frame) -> None:
        for frame in frames:
            await self.pipe.write(self._encoder.encode(frame))

    async def open(self, port: str = "", **headers: str) -> tuple[int, int]:
        """A connection's `(error, data)` streams."""
        error, data = self._next, self._next + 2
        self._next += 4
        shared = {"port": port or str(self.port), "requestID": str(error), **headers}
        await self.say(
            Opened(error, {"streamType": "error", **shared}),
            Data(error, b"", True),
            Opened(data, {"streamType": "data", **shared}),
        )
        return error, data

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def heard(self, stream: int, size: int) -> bytes:
        await self.until(lambda: len(self._heard.get(stream, b"")) >= size)
        return bytes(self._heard[stream])

    async def all_of(self, stream: int) -> bytes:
        """Everything, once the node has ended the stream."""
        await self.until(lambda: stream in self._ended)
        return bytes(self._heard.get(stream, b""))


@contextlib.asynccontextmanager
async def forwarding(pod: Pod) -> AsyncIterator[Client]:
    async def connect(port: int) -> StreamPipe:
        return await connect_directly("127.0.0.1", port)

    theirs, ours = pipe_pair()
    async with (
        await asyncio.start_server(pod, "127.0.0.1", 0) as server,
        asyncio.TaskGroup() as group,
    ):
        client = Client(theirs, server.sockets[0].getsockname()[1])
        group.create_task(over_spdy(ours, connect))
        group.create_task(client.listen())
        try:
            yield client
        finally:
            await theirs.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b" and the end")
    writer.close()


async def test_a_half_closed_connection_still_hears_its_answer() -> None:
    async with forwarding(echo) as client:
        error, data = await client.open()
        await client.say(Data(data, b"hello"))
        assert await client.heard(data, 5) == b"hello"
        await client.say(Data(data, b"", True))
        assert await client.all_of(data) == b"hello and the end"
        assert await client.all_of(error) == b""
        assert client.others == [Replied(error, {}), Replied(data, {})]


async def test_many_connections_side_by_side() -> None:
    async with forwarding(echo) as client:
        streams = [(await client.open())[1] for _ in range(60)]
        for turn in range(5):
            for stream in streams:
                await client.say(Data(stream, b"%d:%d " % (stream, turn)))
        for stream in streams:
            await client.say(Data(stream, b"", True))
        for stream in streams:
            said = b"".join(b"%d:%d " % (stream, turn) for turn in range(5))
            assert await client.all_of(stream) == said + b" and the end"


async def test_old_clients_do_not_number_their_connections() -> None:
    async with forwarding(echo) as client:
        await client.say(
            Opened(1, {"streamType": "error", "port": str(client.port)}),
            Opened(3, {"streamType": "data", "port": str(client.port)}),
            Data(3, b"x", True),
        )
        assert await client.all_of(3) == b"x and the end"


async def test_big_transfers_both_ways() -> None:
    async with forwarding(echo) as client:
        _, data = await client.open()
        content = bytes(range(256)) * 40_000
        for start in range(0, len(content), 100_000):
            await client.say(Data(data, content[start : start + 100_000]))
        await client.say(Data(data, b"", True))
        assert await client.all_of(data) == content + b" and the end"


@pytest.mark.parametrize(
    ("port", "why"), [("1", "Connect"), ("0", "not a port"), ("x", "not a port")]
)
async def test_why_there_is_no_connection(port: str, why: str) -> None:
    async with forwarding(echo) as client:
        error, data = await client.open(port)
        assert why in (await client.all_of(error)).decode()
        assert await client.all_of(data) == b""


async def test_a_reset_ends_the_pods_connection() -> None:
    gone = asyncio.Event()

    async def pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        await reader.read()
        gone.set()
        writer.close()

    async with forwarding(pod) as client, asyncio.timeout(10):
        _, data = await client.open()
        assert await client.heard(data, 2) == b"hi"
        await client.say(Reset(data))
        await gone.wait()


async def test_a_client_that_goes_ends_the_pods_connections() -> None:
    gone = asyncio.Semaphore(0)

    async def pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.release()
        writer.close()

    async with asyncio.timeout(10), forwarding(pod) as client:
        for _ in range(3):
            _, data = await client.open()
        await client.say(Data(data, b"x"))
        await client.pipe.close()
        for _ in range(3):
            await gone.acquire()


async def test_a_pod_that_does_not_read_makes_the_client_wait() -> None:
    release = asyncio.Event()

    async def pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        while await reader.read(1 << 20):
            pass
        writer.close()

    async with forwarding(pod) as client:
        _, data = await client.open()
        piece, total = bytes(32_000), 40_000_000

        async def flood() -> None:
            for _ in range(total // len(piece)):
                await client.say(Data(data, piece))
            await client.say(Data(data, b"", True))

        task = asyncio.create_task(flood())
        before = -1
        while client.pipe.written != before:
            before = client.pipe.written
            await asyncio.sleep(0.3)
        assert client.pipe.written < total
        assert not task.done()
        release.set()
        async with asyncio.timeout(30):
            await task
        await client.all_of(data)


async def test_pings_are_answered_and_nonsense_ends_it() -> None:
    async with forwarding(echo) as client:
        await client.say(Ping(5))
        await client.until(lambda: Ping(5) in client.others)
        # The server's own numbers are even.
        await client.say(Opened(2, {"streamType": "data"}))
        await client.until(lambda: GoAway(0) in client.others)
        async with asyncio.timeout(10):
            await client.ended.wait()
