"""SPDY/3.1 frames, as Kubernetes' streaming clients speak them. Pure.

Source: the SPDY protocol, draft 3.1. Only what carries streams is here: no priorities, no push,
and no flow control by windows, which Kubernetes' clients and servers leave to TCP.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshkube.node.spdy_dictionary import DICTIONARY

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS = 1, 2, 3, 4, 6, 7, 8
FIN = 1
# Reasons to reset a stream.
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 1, 2, 3, 5, 6
LARGEST_HEADERS = 64 * 1024
LARGEST_CONTROL = 64 * 1024
LARGEST_DATA = 32 * 1024
"""Of one frame that is sent; those that come may have what their length can say."""
_CONTROL = 0x80000000
_STREAM_ID = 0x7FFFFFFF


class SpdyError(Exception):
    """What came is not SPDY/3.1: the session cannot go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new stream (SYN_STREAM). Header names are lower-case; `final`: no data will follow."""

    stream: int
    headers: Mapping[str, str]
    final: bool = False


@dataclass(frozen=True, slots=True)
class Replied:
    stream: int
    headers: Mapping[str, str]
    final: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream's data; `final` where it is the last one."""

    stream: int
    data: bytes
    final: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int
    status: int = CANCEL


@dataclass(frozen=True, slots=True)
class Ping:
    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int = 0


Frame = Opened | Replied | Data | Reset | Ping | GoAway


class Encoder:
    """One direction's frames, as bytes. What it makes must be sent in the same order: the
    compression of headers remembers."""

    def __init__(self) -> None:
        self._compress = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 8, 0, DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, final):
                return struct.pack(">II", stream, (FIN * final) << 24 | len(data)) + data
            case Opened(stream, headers, final):
                body = struct.pack(">IIH", stream, 0, 0) + self._headers(headers)
                return _control(SYN_STREAM, body, FIN * final)
            case Replied(stream, headers, final):
                body = struct.pack(">I", stream) + self._headers(headers)
                return _control(SYN_REPLY, body, FIN * final)
            case Reset(stream, status):
                return _control(RST_STREAM, struct.pack(">II", stream, status))
            case Ping(id):
                return _control(PING, struct.pack(">I", id))
            case GoAway(last):
                return _control(GOAWAY, struct.pack(">II", last, 0))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        return self._compress.compress(block) + self._compress.flush(zlib.Z_SYNC_FLUSH)


def _control(type: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, type, flags << 24 | len(body)) + body


class Decoder:
    """Bytes as they come, into frames. Data is handed on as it comes: a frame of many megabytes
    is many `Data`, and never held whole."""

    def __init__(self) -> None:
        self._decompress = zlib.decompressobj(zlib.MAX_WBITS, DICTIONARY)
        self._waiting = bytearray()
        self._stream = 0
        self._left = 0
        self._final = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises `SpdyError`."""
        self._waiting += data
        while True:
            if self._left:
                if not self._waiting:
                    return
                yield self._more_data()
                continue
            if len(self._waiting) < 8:
                return
            first, second = struct.unpack_from(">II", self._waiting)
            flags, length = second >> 24, second & 0xFFFFFF
            if not first & _CONTROL:
                del self._waiting[:8]
                self._stream, self._left, self._final = first, length, bool(flags & FIN)
                if not length:
                    yield Data(first, b"", self._final)
                continue
            if length > LARGEST_CONTROL:
                raise SpdyError(f"a control frame of {length} bytes")
            if len(self._waiting) < 8 + length:
                return
            body = bytes(self._waiting[8 : 8 + length])
            del self._waiting[: 8 + length]
            frame = self._control(first, flags, body)
            if frame is not None:
                yield frame

    def _more_data(self) -> Data:
        piece = bytes(self._waiting[: self._left])
        del self._waiting[: len(piece)]
        self._left -= len(piece)
        return Data(self._stream, piece, self._final and not self._left)

    def _control(self, first: int, flags: int, body: bytes) -> Frame | None:
        version, type = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"version {version} of SPDY")
        final = bool(flags & FIN)
        try:
            match type:
                case 1:
                    stream = struct.unpack_from(">I", body)[0] & _STREAM_ID
                    return Opened(stream, self._headers(body[10:]), final)
                case 2:
                    stream = struct.unpack_from(">I", body)[0] & _STREAM_ID
                    return Replied(stream, self._headers(body[4:]), final)
                case 3:
                    stream, status = struct.unpack_from(">II", body)
                    return Reset(stream & _STREAM_ID, status)
                case 6:
                    return Ping(struct.unpack_from(">I", body)[0])
                case 7:
                    return GoAway(struct.unpack_from(">I", body)[0] & _STREAM_ID)
                case 8:
                    # Nothing is done with them, but the decompressor must see them.
                    self._headers(body[4:])
        except struct.error:
            raise SpdyError(f"a control frame of type {type} is too short") from None
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._decompress.decompress(block, LARGEST_HEADERS)
        except zlib.error as error:
            raise SpdyError(f"headers: {error}") from None
        if self._decompress.unconsumed_tail:
            raise SpdyError(f"headers of more than {LARGEST_HEADERS} bytes")
        return _pairs(plain)


def _pairs(plain: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        (count,) = struct.unpack_from(">I", plain)
        at = 4
        for _ in range(count):
            words = []
            for _ in range(2):
                (length,) = struct.unpack_from(">I", plain, at)
                at += 4
                if at + length > len(plain):
                    raise SpdyError("a header is cut off")
                words.append(plain[at : at + length].decode(errors="replace"))
                at += length
            found[words[0].lower()] = words[1]
    except struct.error:
        raise SpdyError("headers are cut off") from None
    return found
