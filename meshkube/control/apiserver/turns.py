"""Long work in short turns: no one request keeps the loop from all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from time import perf_counter
from typing import ParamSpec, TypeVar

TURN_SECONDS = 0.005
"""So long works one request before others get their turn."""
LOOK_EVERY = 32
"""Elements between two looks at the clock."""

T = TypeVar("T")
P = ParamSpec("P")


async def in_turns(elements: Sequence[T], size: int = LOOK_EVERY) -> AsyncIterator[Sequence[T]]:
    """The elements in pieces of `size`, with a turn for others whenever one's own has lasted."""
    since = perf_counter()
    for start in range(0, len(elements), size):
        if perf_counter() - since > TURN_SECONDS:
            await asyncio.sleep(0)
            since = perf_counter()
        yield elements[start : start + size]


async def chosen(elements: Sequence[T], wanted: Callable[[T], bool]) -> list[T]:
    """Those that a test wants, in their order."""
    found: list[T] = []
    async for piece in in_turns(elements):
        found += [element for element in piece if wanted(element)]
    return found


async def aside(long: bool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a pure function; where it may take long, in a thread, so that others get their turns.
    What it is given must belong to this request alone, or never change."""
    if long:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)
