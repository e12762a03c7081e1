"""Who is served next when more ask than can be answered: each user in turn, not each request.

A node that brings up a hundred pods at once sends hundreds of writes. In one queue whoever writes
one object would wait for all of them; here for one of each user's that wait. (`levels` says which
requests stand in line together at all.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Fairness:
    """Places for requests under way, given to waiting users in turn."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By user; whose turn is next comes first."""

    async def enter(self, user: str) -> Callable[[], None]:
        """Waits for a place; what is returned gives it back, once however often it is called."""
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(user, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._leave()
                raise
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._leave()

        return leave

    def _leave(self) -> None:
        while self._waiting:
            user = next(iter(self._waiting))
            turns = self._waiting.pop(user)
            turn = turns.popleft()
            if turns:
                self._waiting[user] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
