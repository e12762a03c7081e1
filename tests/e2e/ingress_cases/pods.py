"""The pods of the cases: each says what it got as JSON, and does what `X-Do` asks of it.

`X-Do: status 503; wait 0.5; set Location: http://a/; at p1,p2` (only these pods do it), `die`
(closes without an answer), `size 2000` (so many bytes more), `chunked` (with a trailer), `slowly`
(two pieces, 0.3 s apart). The server that decides (`auth`) answers with the status that `X-User`
names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.http2_origin import Call, Http2Origin
from tests.support.ingress import Origin, host_address, read_body, response

PODS = (
    *("p1", "p2", "p3", "p4", "one", "two"),
    *("frail-1", "frail-2", "frail-3", "few-1", "few-2", "few-3", "slow-1", "slow-2", "late"),
    *("ill-1", "ill-2", "worse-1", "worse-2"),
)


@dataclass(frozen=True, slots=True)
class Running:
    address: str
    ports: dict[str, int]
    """Of each pod, and of `tls`, `http2`, `auth`, `full` (which takes no connection) and `gone`."""


def _parsed(head: bytes) -> tuple[str, str, list[list[str]]]:
    first, *fields = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    return method, target, [[k, v.strip()] for k, _, v in (f.partition(":") for f in fields)]


def _orders(headers: list[list[str]], pod: str) -> dict[str, str]:
    text = next((value for name, value in headers if name.lower() == "x-do"), "")
    parts = [each.strip().partition(" ") for each in text.split(";") if each.strip()]
    orders = {name: value for name, _, value in parts}
    return orders if pod in orders.get("at", pod).split(",") else {}


def echo(pod: str) -> Any:
    """A pod's whole connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, headers = _parsed(head)
            orders = _orders(headers, pod)
            if b"100-continue" in head:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await read_body(reader, head)
            if "upgrade" in {name.lower() for name, _ in headers}:
                await _upgraded(reader, writer)
                return
            await asyncio.sleep(float(orders.get("wait", "0")))
            if "die" in orders:
                writer.transport.abort()
                return
            if target == "/cookie":
                orders["set"] = "Set-Cookie: a=b; Domain=pod.local; Path=/user"
            said = {"pod": pod, "method": method, "target": target, "headers": headers}
            said |= {"body": body.decode("latin-1"), "more": "x" * int(orders.get("size", "0"))}
            await _answer(writer, method, json.dumps(said).encode(), orders)

    return serve


async def _answer(
    writer: asyncio.StreamWriter, method: str, body: bytes, orders: dict[str, str]
) -> None:
    status = orders.get("status", "200")
    lines = [orders["set"]] if "set" in orders else []
    if "chunked" in orders or "slowly" in orders:
        head = [f"HTTP/1.1 {status} OK", "Transfer-Encoding: chunked", "Trailer: X-Sum", "", ""]
        writer.write("\r\n".join(head).encode() + b"%x\r\n%s\r\n" % (len(body), body))
        if "slowly" in orders:
            await asyncio.sleep(0.3)
        writer.write(b"1\r\n\n\r\n0\r\nX-Sum: 7\r\n\r\n")
        return
    whole = response(body, f"{status} OK", "Content-Type: application/json", *lines)
    writer.write(whole[: -len(body)] if method == "HEAD" else whole)


async def _upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while data := await reader.read(65536):
        writer.write(data)


def decide(origin: Origin) -> Any:
    """The server behind `auth-url`: counts, and tells what it was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await origin.read_request(reader):
            method, target, headers = _parsed(head)
            fields = {name.lower(): value for name, value in headers}
            status = fields.get("x-user", "401")
            asked.append(fields.get("x-case", ""))
            count = asked.count(fields.get("x-case", ""))
            told = json.dumps({"method": method, "target": target, "headers": headers})
            more = [f"X-Name: Ann{count}", f"X-Asked: {told}", "Set-Cookie: session=1"]
            writer.write(response(b"", f"{status} OK", *more))

    return serve


async def call(request: Call) -> None:
    """A gRPC method that returns what it was given, with its status in the trailers."""
    await request.whole.wait()
    request.respond(200, (b"content-type", b"application/grpc"))
    await request.send(bytes(request.body))
    request.end((b"grpc-status", b"0"))


@contextlib.contextmanager
def running(tls: ssl.SSLContext) -> Iterator[Running]:
    """All pods, on a loop in a thread of its own. `tls` is what the pods `tls` and `grpcs` show."""
    ready, stopped = threading.Event(), asyncio.Event()
    found: list[Running] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            found.append(await _all(stack, tls))
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the pods do not start")
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


async def _all(stack: contextlib.AsyncExitStack, tls: ssl.SSLContext) -> Running:
    address = host_address()
    ports = {}
    for name in (*PODS, "auth", "tls"):
        origin = Origin(host=address)
        origin.answer = decide(origin) if name == "auth" else echo(name)
        context = tls if name == "tls" else None
        server = await asyncio.start_server(origin._serve, address, 0, limit=2**20, ssl=context)
        stack.callback(origin.drop_connections)
        stack.callback(server.close)
        ports[name] = server.sockets[0].getsockname()[1]
    for name, context in (("grpc", None), ("grpcs", tls)):
        pod = Http2Origin(call, context=context, host=address)
        await stack.enter_async_context(pod)
        ports[name] = pod.port
    full = await _full(stack, address)
    ports |= {"full": full, "gone": 1}
    return Running(address, ports)


async def _full(stack: contextlib.AsyncExitStack, address: str) -> int:
    """The port of a socket whose queue is full: the kernel drops further attempts to connect."""
    listener = stack.enter_context(socket.socket())
    listener.bind((address, 0))
    listener.listen(0)
    for _ in range(4):
        link = stack.enter_context(socket.socket())
        link.setblocking(False)
        link.connect_ex(listener.getsockname())
    await asyncio.sleep(0.05)
    return int(listener.getsockname()[1])
