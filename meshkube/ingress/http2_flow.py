"""The back-pressure of one stream: its other end may send as much as has been passed on."""

from __future__ import annotations

from typing import Generic, TypeVar

from meshkube.ingress.http2_link import Http2Link

Link = TypeVar("Link", bound=Http2Link)


class Stream(Generic[Link]):
    """What the streams of clients, of pods and the pipes have in common."""

    _paused = False
    _held = 0
    """Bytes that nobody has taken yet: the window of whoever sent them stays as much smaller."""

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number

    def pause_reading(self) -> None:
        """Whoever takes what comes here does not keep up."""
        self._paused = True

    def resume_reading(self) -> None:
        """It does again."""
        self._paused = False
        held, self._held = self._held, 0
        if held:
            self.link.take(held, self.number)
            self.link.flush_soon()

    def _passed(self, size: int) -> None:
        """What took so many bytes of the window went on from here."""
        if self._paused:
            self._held += size
        else:
            self.link.take(size, self.number)
