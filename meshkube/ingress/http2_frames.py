"""The wire of HTTP/2: kinds of frames, flags and layout (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

import struct

from meshkube.ingress.http2_errors import ErrorCodes, ProtocolError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65_535
FRAME = 16_384
"""The largest frame that we take (SETTINGS_MAX_FRAME_SIZE's default)."""
LARGEST_WINDOW = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32

HEADER = struct.Struct("!HBBBI")
"""Of a frame: its size in two parts, kind, flags, stream."""
SETTING = struct.Struct("!HI")
LONG = struct.Struct("!I")


def unpadded(payload: bytes) -> bytes:
    """What is between the length of the padding and the padding. Raises `ProtocolError`."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def check_dependency(number: int, payload: bytes) -> None:
    """Priorities mean nothing any more (RFC 9113, section 5.3.2), but a stream that depends on
    itself is still nonsense (RFC 7540, section 5.3.1). `payload` begins with one. Raises
    `ProtocolError`."""
    if LONG.unpack_from(payload)[0] & 0x7FFFFFFF == number:
        raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a stream depends on itself")
