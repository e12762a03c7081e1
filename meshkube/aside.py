"""A second event loop in a thread, for the parts that carry traffic.

A request that crosses the ingress takes a tenth of a millisecond; a controller that looks at a
large Service holds its loop for many. On one loop the first waits for the second. On two, it waits
for the interpreter's lock at most, which changes hands every `SWITCH` seconds.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import uvloop

from meshkube.parts import Part
from meshkube.priority import traffic_first
from meshkube.stalls import STALLS

SWITCH = 0.0005
"""Seconds a thread may keep the interpreter while another one waits for it."""


@contextmanager
def side_loop(name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A running loop in a thread of that name. Leaving ends both; the parts on it end first."""
    sys.setswitchinterval(SWITCH)
    started: Future[asyncio.AbstractEventLoop] = Future()
    over = asyncio.Event()

    async def live() -> None:
        started.set_result(asyncio.get_running_loop())
        with STALLS.over(name):
            await over.wait()

    def thread() -> None:
        traffic_first()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(live())

    running = threading.Thread(target=thread, name=name, daemon=True)
    running.start()
    loop = started.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(over.set)
        running.join()


class Aside:
    """A Part whose work runs on another loop than the supervisor's."""

    def __init__(self, part: Part, loop: asyncio.AbstractEventLoop) -> None:
        self.name = part.name
        self._part = part
        self._loop = loop

    async def run(self, ready: Callable[[], None]) -> None:
        """`Part.run`: cancelling it cancels the work and waits for its end."""
        home = asyncio.get_running_loop()
        ended: asyncio.Future[None] = home.create_future()
        task: asyncio.Task[None] | None = None

        def settle(done: asyncio.Task[None]) -> None:
            home.call_soon_threadsafe(_settle, ended, done)

        def start() -> None:
            nonlocal task
            work = self._part.run(lambda: _call(home, ready))
            task = self._loop.create_task(work, name=self.name)
            task.add_done_callback(settle)

        def stop() -> None:
            if task is not None:
                task.cancel()

        self._loop.call_soon_threadsafe(start)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self._loop.call_soon_threadsafe(stop)
            await asyncio.wait([ended])
            raise


def _call(home: asyncio.AbstractEventLoop, ready: Callable[[], None]) -> None:
    home.call_soon_threadsafe(ready)


def _settle(ended: asyncio.Future[None], done: asyncio.Task[None]) -> None:
    if done.cancelled():
        ended.set_exception(RuntimeError("the part was cancelled from within"))
        ended.exception()
    elif (error := done.exception()) is not None:
        ended.set_exception(error)
        ended.exception()
    else:
        ended.set_result(None)
