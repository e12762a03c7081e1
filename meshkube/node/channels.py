"""The framing of exec and attach over WebSocket. Pure.

Each message begins with one byte, its channel. Source: Kubernetes `v4.channel.k8s.io` (standard
streams, errors as a Status, terminal sizes as JSON) and `v5.channel.k8s.io` (adds the half-close).
The first version, `channel.k8s.io`, tells errors as plain text. With `base64` in its name a framing
is text: the channel's digit, then the data in base 64.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from meshkube.api.types import Object

PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
WITH_STATUS = PROTOCOLS[:3]

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


@dataclass(frozen=True, slots=True)
class Stdin:
    data: bytes


@dataclass(frozen=True, slots=True)
class StdinClosed:
    pass


@dataclass(frozen=True, slots=True)
class Resize:
    width: int
    height: int


Incoming = Stdin | StdinClosed | Resize


def decode(message: bytes) -> Incoming | None:
    """What a client sent; None for what has no meaning here."""
    if not message:
        return None
    channel, data = message[0], message[1:]
    if channel == STDIN:
        return Stdin(data) if data else None
    if channel == CLOSE and data[:1] == bytes([STDIN]):
        return StdinClosed()
    if channel == RESIZE:
        return _resize(data)
    return None


def _resize(data: bytes) -> Resize | None:
    try:
        size = orjson.loads(data)
        return Resize(int(size["Width"]), int(size["Height"]))
    except (ValueError, KeyError, TypeError):
        return None


def encode(channel: int, data: bytes) -> bytes:
    return bytes([channel]) + data


def is_text(protocol: str) -> bool:
    return "base64" in protocol


def to_text(message: bytes) -> str:
    """A message of the binary framing, as the textual one has it."""
    return f"{message[0]}{base64.b64encode(message[1:]).decode()}" if message else ""


def of_text(text: bytes) -> bytes:
    """The other way round; empty for what is no such message."""
    try:
        return encode(int(text[:1]), base64.b64decode(text[1:], validate=True))
    except (ValueError, binascii.Error):
        return b""


def exit_status(code: int) -> Object:
    """The Status that ends an exec."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure_status(message: str) -> Object:
    """The Status that ends an exec or attach that could not go on."""
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "InternalError",
        "message": message,
        "code": 500,
    }
