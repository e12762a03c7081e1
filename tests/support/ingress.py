"""For tests of the ingress: API objects in few words, a proxy on loopback, servers behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from meshkube.ingress.guards import Guards
from meshkube.ingress.listener import listen, port_of
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings

Object = dict[str, Any]
# A busy machine may take long to connect even to itself.
PATIENT = Settings(drain_timeout=1, connect_timeout=30)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ingress_class(name: str = "meshkube", *, default: bool = False, ours: bool = True) -> Object:
    annotation = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": annotation},
        "spec": {"controller": "meshkube.io/ingress" if ours else "example.com/other"},
    }


def path(path: str, service: str, type: str = "Prefix", port: int | str = 80) -> Object:
    key = "name" if isinstance(port, str) else "number"
    return {
        "path": path,
        "pathType": type,
        "backend": {"service": {"name": service, "port": {key: port}}},
    }


def ingress(
    name: str,
    hosts: dict[str, list[Object]] | None = None,
    *,
    namespace: str = "shop",
    created: str = "2026-01-01T00:00:00Z",
    default: str = "",
    cls: str | None = "meshkube",
    tls: Sequence[Object] = (),
    annotations: dict[str, str] | None = None,
) -> Object:
    spec: Object = {}
    if cls is not None:
        spec["ingressClassName"] = cls
    if hosts is not None:
        spec["rules"] = [
            {**({"host": host} if host else {}), "http": {"paths": paths}}
            for host, paths in hosts.items()
        ]
    if default:
        spec["defaultBackend"] = {"service": {"name": default, "port": {"number": 80}}}
    if tls:
        spec["tls"] = list(tls)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": annotations or {},
        },
        "spec": spec,
    }


def service(
    name: str, ports: Sequence[Object] = ({"port": 80},), *, namespace: str = "shop", **spec: Any
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": list(ports), **spec},
    }


def endpoint(address: str, **conditions: bool) -> Object:
    return {"addresses": [address], "conditions": conditions or {"ready": True}}


def slice_(
    service: str,
    endpoints: Sequence[Object],
    port: int = 8080,
    *,
    name: str = "",
    namespace: str = "shop",
    port_name: str = "",
    family: str = "IPv4",
) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service}-abcde",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def table_to(*ports: int, host: str = "") -> RouteTable:
    """Everything to a Service whose pods are these ports of 127.0.0.1 (a slice for each)."""
    slices = [slice_("web", [endpoint("127.0.0.1")], port, name=f"web-{port}") for port in ports]
    rule = ingress("web", {host: [path("/", "web")]})
    return compile([rule], [ingress_class()], [service("web")], slices)


@contextlib.asynccontextmanager
async def running_proxy(
    table: RouteTable, settings: Settings | None = None, *secrets: Object
) -> AsyncIterator[tuple[Proxy, int]]:
    """A proxy, and the port it listens on."""
    found = {f"shop/{secret['metadata']['name']}": secret for secret in secrets}
    guards = Guards(found.get, table.service)
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        stack.push_async_callback(guards.close)
        proxy = Proxy(table, settings or PATIENT, group.create_task)
        proxy.guards_of = guards.of
        server = await listen(proxy, "127.0.0.1", 0, None)
        sweep = group.create_task(proxy.sweep())
        try:
            yield proxy, port_of(server)
        finally:
            server.close()
            await proxy.drain()
            sweep.cancel()


class Origin:
    """A server behind the proxy: it reads whole requests and answers with given bytes."""

    def __init__(self, answer: bytes | Handler = b"", host: str = "127.0.0.1") -> None:
        self.host = host
        self.answer: Any = answer or response(b"ok")
        self.requests: list[bytes] = []
        """The heads, as they came."""
        self.bodies: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Origin:
        self._server = await asyncio.start_server(self._serve, self.host, 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if callable(self.answer):
                await self.answer(reader, writer)
                return
            while await self.read_request(reader):
                writer.write(self.answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        self.requests.append(head)
        self.bodies.append(await read_body(reader, head))
        return head


def host_address() -> str:
    """An address of this machine that is not loopback: the API takes no other for a pod."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it only asks the kernel which address it would send from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The payload that the head announces."""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readline()) != b"\r\n":
            if not line:
                raise ConnectionResetError
        return body
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)
    return b""


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Answer:
    """A response that a test has read."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.status = int(head.split(b" ")[1])

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return ""


class TestClient:
    """A client that writes bytes as they are given."""

    __test__ = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> Answer:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ")[1])
            if head_only or status < 200 or status in (204, 304):
                return Answer(head, b"")
            lower = head.lower()
            if b"content-length:" not in lower and b"chunked" not in lower:
                return Answer(head, await self.reader.read())
            return Answer(head, await read_body(self.reader, head))

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.answer(head_only=data.startswith(b"HEAD "))

    async def at_end(self) -> bool:
        """Whether the proxy has closed, with nothing more to read."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@contextlib.asynccontextmanager
async def client(port: int, **ssl_options: Any) -> AsyncIterator[TestClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20, **ssl_options)
    try:
        yield TestClient(reader, writer)
    finally:
        writer.transport.abort()
