"""The server name in the first bytes of a TLS connection, read before OpenSSL sees them. Pure.

OpenSSL can ask for a certificate in the middle of a handshake, but from Python that costs as much
as a fifth of it. Who knows the name beforehand begins with the right certificate. Sources: RFC
8446 (section 4.1.2), RFC 6066 (section 3).
"""

from __future__ import annotations

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 22, 1, 0
# Record header, handshake header, version and random.
_SESSION_ID = 5 + 4 + 2 + 32


def server_name(data: bytes) -> str | None:
    """The name a ClientHello asks for, in lower case; empty where it names none. None where these
    bytes are not one whole ClientHello: then it is for OpenSSL to make something of them."""
    if len(data) <= _SESSION_ID or data[0] != _HANDSHAKE or data[5] != _CLIENT_HELLO:
        return None
    if int.from_bytes(data[3:5]) > len(data) - 5:
        return None
    try:
        at = _SESSION_ID + 1 + data[_SESSION_ID]
        at += 2 + int.from_bytes(data[at : at + 2])
        at += 1 + data[at]
        end = at + 2 + int.from_bytes(data[at : at + 2])
        return _name(data, at + 2, end) if end <= len(data) else None
    except (IndexError, UnicodeDecodeError):
        return None


def incomplete(data: bytes) -> bool:
    """Whether these first bytes are the beginning of a record with a handshake message whose end
    has still to come: a hello with large keys takes more than one packet."""
    return data[:1] == b"\x16" and (len(data) < 5 or len(data) - 5 < int.from_bytes(data[3:5]))


def _name(data: bytes, at: int, end: int) -> str:
    while at + 4 <= end:
        size = int.from_bytes(data[at + 2 : at + 4])
        if data[at] == 0 and data[at + 1] == _SERVER_NAME:
            # List length, type of name (always 0), length of name.
            length = int.from_bytes(data[at + 7 : at + 9])
            return data[at + 9 : at + 9 + length].decode("ascii").lower().rstrip(".")
        at += 4 + size
    return ""
