"""The API servers of one cluster, as a client sees them: the one in use, and whom to ask next."""

from __future__ import annotations

import random
from collections.abc import Iterable


class Servers:
    """URLs such as `https://10.0.0.1:6443`; the first one given is in use until it fails."""

    def __init__(self, urls: Iterable[str]) -> None:
        """Raises `ValueError` where there is none."""
        self._urls = _clean(urls)
        if not self._urls:
            raise ValueError("no server is given")

    @property
    def current(self) -> str:
        return self._urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, the one in use first."""
        return tuple(self._urls)

    def failed(self, url: str) -> bool:
        """It goes to the end: the next one is in use. False where others have said so already, or
        there is no other."""
        if self._urls[0] != url or len(self._urls) == 1:
            return False
        self._urls.append(self._urls.pop(0))
        return True

    def replace(self, urls: Iterable[str]) -> None:
        """What the cluster says now. The one in use stays so, where it is still among them; the
        others come in an order of their own in each process, so that many clients spread."""
        new = _clean(urls)
        if not new:
            return
        random.shuffle(new)
        if self.current in new:
            new.remove(self.current)
            new.insert(0, self.current)
        self._urls = new


def _clean(urls: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(url.strip().rstrip("/") for url in urls if url.strip()))
