# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""WebSocket over HTTP/2 (RFC 8441): an extended CONNECT outside, an upgrade at the pod. The pod is
the package websockets' own server; the client's frames are in the test's hands."""

import asyncio
from typing import Any

import pytest
from h2.settings import SettingCodes
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from meshkube.ingress.http2_tunnel import accepts
from meshkube.ingress.settings import Settings
from tests.support.http2 import Client, client
from tests.support.ingress import Origin, response, running_proxy, table_to

VERSION = (b"sec-websocket-version", b"13")


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


class Talk:
    """A WebSocket client whose transport is one stream of HTTP/2."""

    def __init__(self, c: Client, *headers: tuple[bytes, bytes], path: str = "/chat") -> None:
        self.c = c
        self.number = c.h2.get_next_available_stream_id()
        pseudo = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"https"),
            (b":authority", b"a.io"),
            (b":path", path.encode()),
        ]
        self.stream = c.streams.setdefault(self.number, type_of_stream())
        c.h2.send_headers(self.number, [*pseudo, VERSION, *headers])
        c.flush()
        self.protocol = ClientProtocol(parse_uri("ws://a.io/chat"), state=State.OPEN, max_size=None)
        self._read = 0

    async def begun(self) -> int:
        async with asyncio.timeout(10):
            while b":status" not in self.stream.headers:
                assert await self.c.step()
        return self.stream.status

    async def send(self, text: bytes) -> None:
        self.protocol.send_binary(text)
        await self.flush()

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            while data:
                h2 = self.c.h2
                room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
                if room:
                    h2.send_data(self.number, data[:room])
                    data = data[room:]
                    self.c.flush()
                else:
                    assert await self.c.step()

    async def next(self) -> Frame:
        """The next frame that is no continuation of the transport's business."""
        async with asyncio.timeout(10):
            while True:
                for event in self.protocol.events_received():
                    assert isinstance(event, Frame)
                    return event
                if self._read < len(self.stream.body):
                    new = bytes(self.stream.body[self._read :])
                    self._read += len(new)
                    self.protocol.receive_data(new)
                    await self.flush()
                else:
                    assert await self.c.step()


def type_of_stream() -> Any:
    from tests.support.http2 import Stream

    return Stream()


async def test_messages_pass_both_ways_and_the_close_is_clean() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        pod = server.sockets[0].getsockname()[1]
        async with running_proxy(table_to(pod)) as (proxy, port), client(port) as c:
            await c.step()
            assert c.h2.remote_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
            talk = Talk(c)
            assert await talk.begun() == 200
            assert b"sec-websocket-accept" not in talk.stream.headers
            assert b"upgrade" not in talk.stream.headers
            # Larger than every window and buffer on the way.
            for message in (b"hello", b"", b"x" * 700_000):
                await talk.send(message)
                got = await talk.next()
                assert (got.opcode, got.data) == (Opcode.BINARY, message)
            # Requests go on beside it.
            other = Talk(c)
            assert await other.begun() == 200
            talk.protocol.send_close(1000)
            await talk.flush()
            assert (await talk.next()).opcode == Opcode.CLOSE
            await c.answer(talk.number)
            assert talk.stream.ended
            await other.send(b"still here")
            assert (await other.next()).data == b"still here"
    assert not proxy.clients


async def test_frames_that_come_before_the_pod_has_agreed_wait() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        pod = server.sockets[0].getsockname()[1]
        async with running_proxy(table_to(pod)) as (_, port), client(port) as c:
            talk = Talk(c)
            await talk.send(b"early")
            assert (await talk.next()).data == b"early"


async def test_the_client_ends_its_half_first() -> None:
    gone = asyncio.Event()

    async def until_gone(connection: ServerConnection) -> None:
        await connection.wait_closed()
        gone.set()

    async with serve(until_gone, "127.0.0.1", 0) as server:
        pod = server.sockets[0].getsockname()[1]
        async with running_proxy(table_to(pod)) as (_, port), client(port) as c:
            for end in ("end_stream", "reset_stream"):
                gone.clear()
                talk = Talk(c)
                assert await talk.begun() == 200
                getattr(c.h2, end)(talk.number)
                c.flush()
                async with asyncio.timeout(5):
                    await gone.wait()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (response(b"no", "403 Forbidden"), 403),
        (response(b"a page", "200 OK"), 502),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: bm8=\r\n\r\n",
            502,
        ),
    ],
    ids=["refused", "no switch", "a wrong key"],
)
async def test_a_pod_that_does_not_agree(answer: bytes, status: int) -> None:
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            talk = Talk(c, (b"sec-websocket-key", b"of the client's own"))
            assert (await c.answer(talk.number)).status == status
    head = origin.requests[0]
    assert head.startswith(b"GET /chat HTTP/1.1\r\n")
    assert head.count(b"Sec-WebSocket-Key: ") == head.lower().count(b"sec-websocket-key") == 1
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head


async def test_other_protocols_and_a_plain_connect_are_refused() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            number = c.request("CONNECT", "/", (b"a", b"b"))
            assert (await c.answer(number)).reset == 1
            for protocol, status in ((b"connect-udp", 501),):
                number = c.h2.get_next_available_stream_id()
                c.streams[number] = type_of_stream()
                pseudo = [(b":method", b"CONNECT"), (b":protocol", protocol), (b":path", b"/")]
                c.h2.send_headers(number, [*pseudo, (b":scheme", b"https"), (b":authority", b"a")])
                c.flush()
                assert (await c.answer(number)).status == status
    assert not origin.requests


async def test_a_pipe_in_which_nothing_moves_is_closed() -> None:
    async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
        pod = server.sockets[0].getsockname()[1]
        settings = Settings(tunnel_timeout=0.2, head_timeout=1, drain_timeout=1)
        async with running_proxy(table_to(pod), settings) as (_, port), client(port) as c:
            talk = Talk(c)
            assert await talk.begun() == 200
            assert (await c.answer(talk.number)).reset == 8


async def test_the_key_is_answered_as_the_standard_says() -> None:
    assert accepts(b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert not accepts(b"dGhlIHNhbXBsZSBub25jZQ==", b"")
