"""The gRPC health check, over HTTP/2 without TLS: one unary call, by hand.

Source: gRPC Health Checking Protocol (`grpc.health.v1.Health/Check`) and gRPC over HTTP/2.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from meshkube.node.probes import Answer

SERVING = 1
_STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_UNIMPLEMENTED = "12"


@dataclass(slots=True)
class _Call:
    body: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    broken: str = ""


def request(service: str) -> bytes:
    """A framed `HealthCheckRequest`: field 1 is the service's name."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return struct.pack(">BI", 0, len(message)) + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def response_status(body: bytes) -> int:
    """The status in a framed `HealthCheckResponse`: field 1, or 0. Raises `ValueError`."""
    if len(body) < 5:
        raise ValueError("the answer is cut short")
    compressed, size = struct.unpack(">BI", body[:5])
    message = body[5 : 5 + size]
    if compressed or len(message) < size:
        raise ValueError("the answer cannot be read")
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0


async def check(host: str, port: int, service: str, timeout: float) -> Answer:
    """One health check; never raises."""
    address = f"{host}:{port}"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            call = await _call(reader, writer, address, service)
    except TimeoutError:
        return Answer(False, f'timeout: failed to connect service "{address}" within {timeout:g}s')
    except (OSError, ProtocolError) as error:
        return Answer(False, f'error: health rpc failed: connection to "{address}": {error}')
    finally:
        if writer is not None:
            writer.close()
    return _answer(call, service)


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, service: str
) -> _Call:
    http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http.initiate_connection()
    stream = http.get_next_available_stream_id()
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.33"),
    ]
    http.send_headers(stream, headers)
    http.send_data(stream, request(service), end_stream=True)
    call = _Call()
    while not call.done:
        writer.write(http.data_to_send())
        await writer.drain()
        data = await reader.read(65536)
        if not data:
            call.done, call.broken = True, "the connection was closed"
            break
        for event in http.receive_data(data):
            _take(call, event, http)
    return call


def _take(call: _Call, event: Event, http: H2Connection) -> None:
    match event:
        case ResponseReceived() | TrailersReceived():
            call.headers.update({str(name): str(value) for name, value in event.headers or ()})
        case DataReceived():
            call.body += event.data or b""
            if event.flow_controlled_length and event.stream_id:
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        case StreamEnded():
            call.done = True
        case StreamReset() | ConnectionTerminated():
            call.done, call.broken = True, "the server broke the call off"


def _answer(call: _Call, service: str) -> Answer:
    if call.broken:
        return Answer(False, f"error: health rpc failed: {call.broken}")
    code = call.headers.get("grpc-status", "")
    if code == _UNIMPLEMENTED:
        message = "error: this server does not implement the grpc health protocol"
        return Answer(False, f"{message} (grpc.health.v1.Health)")
    if code != "0":
        said = call.headers.get("grpc-message", f"grpc-status {code or 'missing'}")
        return Answer(False, f"error: health rpc failed: {said}")
    try:
        status = response_status(bytes(call.body))
    except ValueError as error:
        return Answer(False, f"error: health rpc failed: {error}")
    if status == SERVING:
        return Answer(True)
    name = _STATUSES.get(status, str(status))
    return Answer(False, f'service unhealthy (responded with "{name}")')
