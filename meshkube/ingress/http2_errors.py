"""The codes of HTTP/2, and the faults that end a stream or a connection (RFC 9113, 5.4 and 7)."""

from __future__ import annotations

from enum import IntEnum


class ErrorCodes(IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def error_name(code: int) -> str:
    """`ENHANCE_YOUR_CALM`; a number where it has no name."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return str(code)


class SettingCodes(IntEnum):
    """RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8
    """RFC 8441, section 3."""


class H2Error(Exception):
    """What was to be sent has no place any more: the stream or the connection has ended."""


class ProtocolError(H2Error):
    """The other side broke the rules of the whole connection; the GOAWAY is to be sent."""

    def __init__(self, code: ErrorCodes, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code


class StreamError(Exception):
    """The other side broke the rules of one stream."""

    def __init__(self, code: ErrorCodes) -> None:
        self.code = code
