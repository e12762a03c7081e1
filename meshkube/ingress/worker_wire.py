"""What the ingress and its workers say to each other: JSON messages, each with its length before
it. Pure.

To a worker: `settings` first, then `object` for each object and each change (`kind`, `key`, and
`object`, null when it is gone), `synced` after the first ones. From a worker: `listening`, then
`counts` from time to time. The end of the stream tells a worker to finish what is under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

import orjson

from meshkube.ingress.settings import Settings

_LENGTH = 4
LONGEST = 64 * 1_048_576


def encoded(message: dict[str, Any]) -> bytes:
    body = orjson.dumps(message, default=str)
    return len(body).to_bytes(_LENGTH) + body


class Reader:
    """Takes messages out of a stream of bytes, however it is split."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are whole now."""
        held = self._held
        held += data
        at = 0
        while len(held) - at >= _LENGTH:
            size = int.from_bytes(held[at : at + _LENGTH])
            if len(held) - at - _LENGTH < size:
                break
            at += _LENGTH + size
            yield orjson.loads(bytes(held[at - size : at]))
        del held[:at]


def settings_out(settings: Settings) -> dict[str, Any]:
    """Settings as JSON holds them."""
    return asdict(settings)


def settings_in(found: dict[str, Any]) -> Settings:
    """The settings that `settings_out` was given."""
    values: dict[str, Any] = {
        name: tuple(ip_network(each) for each in value) if isinstance(value, list) else value
        for name, value in found.items()
    }
    return Settings(**values)
