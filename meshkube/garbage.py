"""Python's cyclic garbage collector, kept from stopping the world.

By itself it walks every object there is whenever a quarter of them is new: 0.3-1 s with the
interpreter's lock held in a server with 2,000 pods that come and go (bench/churn.py). API objects
are plain trees that are freed without it; only what is left of connections and tasks makes cycles.
So young objects are looked at as ever, and the old ones are set aside.
"""

from __future__ import annotations

import asyncio
import gc

YOUNG, MIDDLE = 1000, 5
"""Objects more than before a collection of the young, and such collections before one of the
middle-aged: 5,000 objects, a few milliseconds."""
NEVER = 1_000_000_000
SETTLED_AFTER = 10.0
SET_ASIDE_EVERY = 120.0
DAY = 86_400.0


def tame() -> None:
    """No walk over everything begins by itself any more. For the start of a process."""
    gc.set_threshold(YOUNG, MIDDLE, NEVER)


def keep(loop: asyncio.AbstractEventLoop) -> None:
    """Collects and sets aside what has grown old since the last time, for as long as the loop runs.
    Once a day all is looked at, for cycles among the old."""
    loop.call_later(SETTLED_AFTER, _set_aside, loop, loop.time())


def _set_aside(loop: asyncio.AbstractEventLoop, looked: float) -> None:
    if loop.time() - looked >= DAY:
        looked = loop.time()
        gc.unfreeze()
    gc.collect()
    gc.freeze()
    loop.call_later(SET_ASIDE_EVERY, _set_aside, loop, looked)
