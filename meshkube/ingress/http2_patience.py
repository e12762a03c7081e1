"""How many frames of no use the other side of a connection may send. Pure."""

from __future__ import annotations

from meshkube.ingress.http2_sending import Sending

NOISE, NOISE_BACK = 1000, 50.0
"""Frames of no use (pings, settings, priorities, empty ones), beside those that go with requests
and responses; and how many are forgotten each second."""


class Patience:
    """With one connection."""

    __slots__ = ("_since",)

    def __init__(self, now: float) -> None:
        self._since = now

    def ends(self, codec: Sending, now: float) -> bool:
        """Whether it has had too many for the time that they took. For the rare case that
        `codec.noise` is above `NOISE`."""
        codec.noise = max(0, codec.noise - int((now - self._since) * NOISE_BACK))
        self._since = now
        return codec.noise > NOISE
