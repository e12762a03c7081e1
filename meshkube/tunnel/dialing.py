"""A client's side of an upgrade: a request sent, its answer read, the connection kept."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from meshkube.tunnel.pipe import PIECE, StreamPipe

CONNECT_SECONDS = 10.0
LARGEST_HEAD = 64 * 1024
LARGEST_REFUSAL = 1024 * 1024
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Dialled:
    """The answer. `pipe` carries the new protocol where `status` is 101; else it is closed and
    `body` says why."""

    status: int
    headers: list[tuple[str, str]]
    pipe: StreamPipe
    body: bytes = b""


async def dial(
    url: str, tls: ssl.SSLContext | None, method: str, headers: Headers, *, name: str = ""
) -> Dialled:
    """Sends an upgrade request (no body; `headers` name the upgrade) to `http://` or `https://`.
    `name` is what the other's certificate says, where that is not what the URL says. Raises
    `OSError` (`TimeoutError` too) where nobody answers properly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(
            host,
            parts.port or (443 if secure else 80),
            ssl=(tls or ssl.create_default_context()) if secure else None,
            server_hostname=name or None,
            limit=LARGEST_HEAD * 4,
        )
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    try:
        writer.write(_head(method, target, parts.netloc, headers))
        await writer.drain()
        return await _answered(reader, writer)
    except BaseException:
        writer.close()
        raise


def _head(method: str, target: str, host: str, headers: Headers) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() != "host"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Answer:
    """Collects an HTTP answer (httptools' callbacks)."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        if len(self.body) < LARGEST_REFUSAL:
            self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Dialled:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ConnectionResetError("no proper HTTP answer came") from None
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    pipe = StreamPipe(reader, writer)
    try:
        parser.feed_data(head)
        status = parser.get_status_code()
        while status != 101 and not answer.complete:
            data = await reader.read(PIECE)
            if not data:
                break
            parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        status = parser.get_status_code()
    except httptools.HttpParserError as error:
        raise ConnectionResetError(f"no proper HTTP answer came: {error}") from None
    if status != 101:
        await pipe.close()
    return Dialled(status, answer.headers, pipe, bytes(answer.body))
