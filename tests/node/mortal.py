"""An agent whose process dies at a chosen step: what it asks of the runtime and writes to the API
is counted, and at the given count nothing of it has any effect any more, as after `kill -9`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, cast

from meshkube.client.base import Client
from meshkube.node.runtime import Runtime

# What changes something: each has a step before it and one after it.
RUNTIME_STEPS = frozenset({"create_sandbox", "create_container", "start", "stop", "remove"})
CLIENT_STEPS = frozenset({"create", "update", "patch", "delete"})


class Fuse:
    """Blows at step number `limit`; never, where that is 0."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken: list[str] = []
        self.blown = asyncio.Event()
        self.buried = False
        """The agent is being taken down: whoever asks is told to end."""

    async def step(self, what: str) -> None:
        await self.alive()
        self.taken.append(what)
        if len(self.taken) == self.limit:
            self.blown.set()
            await self.alive()

    async def alive(self) -> None:
        """Returns while the process lives; a dead one gets no further."""
        if self.buried:
            raise asyncio.CancelledError
        if self.blown.is_set():
            await asyncio.Event().wait()


class _Wrapped:
    def __init__(self, real: Any, fuse: Fuse, steps: frozenset[str]) -> None:
        self._real = real
        self._fuse = fuse
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not inspect.iscoroutinefunction(real) or name == "close":
            return real
        return self._counted(name, real) if name in self._steps else self._checked(real)

    def _checked(self, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            await self._fuse.alive()
            return await real(*arguments, **named)

        return call

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            about = _about(name, arguments)
            if about is None:
                await self._fuse.alive()
                return await real(*arguments, **named)
            await self._fuse.step(f"before {about}")
            found = await real(*arguments, **named)
            await self._fuse.step(f"after {about}")
            return found

        return call


def _about(name: str, arguments: tuple[Any, ...]) -> str | None:
    """A step's name; None for writes about anything but pods: they say nothing of containers."""
    kind = getattr(arguments[0], "kind", None) if arguments else None
    if kind is None:
        return name
    return f"{name} pod" if kind == "Pod" else None


def mortal_runtime(real: Runtime, fuse: Fuse) -> Runtime:
    return cast(Runtime, _Wrapped(real, fuse, RUNTIME_STEPS))


def mortal_client(real: Client, fuse: Fuse) -> Client:
    return cast(Client, _Wrapped(real, fuse, CLIENT_STEPS))
