"""Every asynchronous test of the ingress runs on asyncio's own loop and on uvloop, as the daemon
does: the two differ in when they call back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import uvloop


def pytest_asyncio_loop_factories(
    config: Any, item: Any
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    # Listener workers have loops of their own.
    if getattr(item, "callspec", None) is None or not item.callspec.params.get("workers"):
        loops["asyncio"] = asyncio.new_event_loop
    return loops
