"""Writes what watchers are told straight to their connections: one callback for all that have
news, no task woken for each. A watch's own task sees to what takes time: its start, a client that
reads slowly, bookmarks, its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from aiohttp.base_protocol import BaseProtocol

from meshkube.clock import Clock
from meshkube.control.apiserver.http import PIECE
from meshkube.control.apiserver.rendering import Lines
from meshkube.control.apiserver.turns import TURN_SECONDS
from meshkube.control.apiserver.watching import Watcher

AT_ONCE = 64
"""Events that are encoded and written at a time."""


class Turns:
    """What is due, in order, with a turn for others whenever this has lasted. Nothing called here
    may raise."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        self._due.append(call)
        if len(self._due) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        until = perf_counter() + TURN_SECONDS
        while self._due:
            if perf_counter() > until:
                asyncio.get_running_loop().call_soon(self._run)
                return
            # Taken out last: as long as one is in, a run is under way.
            self._due[0]()
            self._due.popleft()


class Delivery:
    """Of one watch. What is told while its task rests is written by callback."""

    def __init__(
        self,
        watcher: Watcher,
        lines: Lines,
        protocol: BaseProtocol,
        clock: Clock,
        turns: Turns,
    ) -> None:
        self._watcher = watcher
        self._lines = lines
        self._protocol = protocol
        self._clock = clock
        self._turns = turns
        self._resting: asyncio.Future[None] | None = None
        watcher.on_news = self._news

    async def rest(self, seconds: float) -> None:
        """Until the time is over or there is something for the task to do: the watch has ended, or
        more waits than is written at once. Raises what writing raised."""
        if self._watcher.waiting or self._watcher.ended:
            return
        loop = asyncio.get_running_loop()
        self._resting = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._resting
        finally:
            self._resting = None
            timer.cancel()

    def _news(self) -> None:
        if self._resting is None:
            return
        if self._watcher.ended:
            self._wake()
        else:
            self._turns.add(self._send)

    def _wake(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    def _send(self) -> None:
        resting = self._resting
        if resting is None or resting.done() or not self._watcher.waiting:
            return
        much = self._watcher.waiting > AT_ONCE or self._watcher.size > PIECE
        if much or self._protocol.writing_paused:
            self._wake()
            return
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            return  # its task is about to be cancelled
        try:
            transport.write(self._lines.of(self._watcher.taken(), self._clock.now()))
        except Exception as error:
            resting.set_exception(error)
