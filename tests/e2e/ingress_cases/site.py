"""The ingress as the client of one case sees it, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import http2
from tests.support.ingress import TestClient, client


@dataclass(frozen=True, slots=True)
class Ports:
    """Where an ingress that is being judged listens, and what is known of it."""

    name: str
    http: int
    https: int
    authority: str
    """PEM of who signed the certificates of the cases."""
    clients: Path
    """A file with the certificate of a client and its key."""
    access_log: Path
    workers: int = 1
    """Processes that count, each for itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    trailers: dict[bytes, bytes] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """The values of that name, with commas; empty: it is not there."""
        return ", ".join(value for key, value in self.headers if key == name.lower())

    @property
    def seen(self) -> dict[str, Any]:
        """What the pod says that it got."""
        assert self.status < 400, (self.status, self.body)
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def pod(self) -> str:
        return str(self.seen["pod"])

    def got(self, name: str) -> str | None:
        """A header that the pod got."""
        for key, value in self.seen["headers"]:
            if key.lower() == name.lower():
                return str(value)
        return None


class Site:
    """One case's host. Requests go one after the other over one connection for each port."""

    def __init__(self, host: str, ports: Ports, protocol: str, stack: Any) -> None:
        self.host = host
        self.ports = ports
        self.protocol = protocol
        self._stack: contextlib.AsyncExitStack = stack
        self._open: dict[tuple[Any, ...], Any] = {}

    async def get(
        self,
        target: str = "/",
        *lines: str,
        method: str = "GET",
        body: bytes | None = None,
        host: str = "",
        tls: bool = False,
        certificate: Path | None = None,
        source: str = "127.0.0.1",
        fresh: bool = False,
    ) -> Answer:
        """One request. `lines` are header fields; `certificate` is a file with a client's
        certificate and key; `fresh` takes a connection of its own."""
        name = host or self.host
        key = (tls, name if tls else "", certificate, source)
        context = self._context(certificate) if tls else None
        if fresh:
            async with contextlib.AsyncExitStack() as stack:
                link = await stack.enter_async_context(self._connect(context, name, source))
                return await self._ask(link, target, lines, method, body, name, tls)
        if key not in self._open:
            self._open[key] = await self._stack.enter_async_context(
                self._connect(context, name, source)
            )
        answer = await self._ask(self._open[key], target, lines, method, body, name, tls)
        if answer.header("connection") == "close":
            del self._open[key]
        return answer

    def link(self, *, http1: bool = False, http2: bool = False, source: str = "127.0.0.1") -> Any:
        """A connection to send anything over: `TestClient`, or with `http2` (over TLS) and where
        nothing else is asked for `tests.support.http2.Client`."""
        if http1:
            return client(self.ports.http, local_addr=(source, 0))
        return self._connect(self._context(None) if http2 else None, self.host, source, http2)

    def _context(self, certificate: Path | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ports.authority)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def _connect(
        self, context: ssl.SSLContext | None, name: str, source: str, newer: bool = False
    ) -> Any:
        port = self.ports.https if context else self.ports.http
        if newer or self.protocol == "HTTP/2":
            return http2.client(port, context, name, (source, 0))
        tls = {"ssl": context, "server_hostname": name} if context else {}
        return client(port, local_addr=(source, 0), **tls)

    async def _ask(
        self, link: Any, target: str, lines: Sequence[str], method: str,
        body: bytes | None, host: str, tls: bool,
    ) -> Answer:  # fmt: skip
        if isinstance(link, TestClient):
            length = [] if body is None else [f"Content-Length: {len(body)}"]
            head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, *length, "", ""]
            got = await link.ask("\r\n".join(head).encode() + (body or b""))
            fields = got.head.decode("latin-1").split("\r\n")[1:-2]
            pairs = [each.partition(":") for each in fields]
            headers = [(name.lower(), value.strip()) for name, _, value in pairs]
            return Answer(got.status, headers, got.body)
        fields = [each.partition(":") for each in lines]
        sent = [(name.lower().encode(), value.strip().encode()) for name, _, value in fields]
        stream = await link.ask(
            method, target, *sent, body=body, authority=host, scheme="https" if tls else "http"
        )
        assert stream.reset is None, f"the stream was reset with {stream.reset}"
        headers = [(k.decode(), v.decode("latin-1")) for k, v in stream.headers.items()]
        return Answer(stream.status, headers, bytes(stream.body), stream.trailers)

    async def unfinished(self, body: bytes) -> int:
        """The status of a request whose body does not go on after these bytes."""
        async with self._connect(None, self.host, "127.0.0.1") as link:
            if isinstance(link, TestClient):
                link.send(f"POST / HTTP/1.1\r\nHost: {self.host}\r\n".encode())
                link.send(b"Content-Length: %d\r\n\r\n" % (2 * len(body)) + body)
                return (await link.answer()).status
            number = link.open("POST", "/", authority=self.host)
            link.h2.send_data(number, body)
            link.flush()
            while not link.streams[number].headers and await link.step():
                pass
            return int(link.streams[number].status)

    async def several(self, count: int, target: str = "/", *lines: str) -> list[Answer]:
        """Requests at the same time, each over a connection of its own."""
        asked = (self.get(target, *lines, fresh=True) for _ in range(count))
        return list(await asyncio.gather(*asked))
