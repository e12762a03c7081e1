"""Events are kept for an hour after they were last seen, as kube-apiserver keeps them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.options import DeleteOptions
from meshkube.control.apiserver.turns import chosen

if TYPE_CHECKING:
    from meshkube.control.apiserver.registry import Registry

log = logging.getLogger(__name__)

KEPT = timedelta(hours=1)
SWEEP_SECONDS = 60.0


async def sweep_events(registry: Registry) -> None:
    """Removes old Events, for ever."""
    sweeper = Sweeper(registry)
    while True:
        await registry.clock.sleep(SWEEP_SECONDS)
        try:
            await sweeper.once()
        except ApiError as error:
            log.warning("old events are not removed yet", extra={"reason": error.message})


class Sweeper:
    """Looks only at Events that were last written long ago: of what is younger than a revision of
    an hour ago, nothing is old. There may be tens of thousands."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._marks: deque[tuple[datetime, int]] = deque()
        """When the caches held which revision: the last one that is an hour old, and what follows;
        in the first hour, that of the first look."""

    async def once(self) -> None:
        """Raises `ApiError` where the store is away."""
        registry = self._registry
        now = registry.clock.now()
        oldest = now - KEPT
        self._marks.append((now, registry.feed.revision))
        while len(self._marks) > 1 and self._marks[1][0] <= oldest:
            self._marks.popleft()
        written_by = self._marks[0][1]
        items = list(registry.feed.cache(kinds.EVENT).items.values())
        for item in await chosen(items, lambda item: item.revision <= written_by):
            event = orjson.loads(item.raw)
            if last_seen(event) < oldest:
                await self._remove(event)
            await asyncio.sleep(0)

    async def _remove(self, event: Object) -> None:
        options = DeleteOptions(uid=meta.uid(event), resource_version=meta.resource_version(event))
        try:
            await self._registry.delete(
                kinds.EVENT, meta.name(event), meta.namespace(event), options
            )
        except ApiError as error:
            if error.code not in (404, 409):  # gone, or seen again
                raise


def last_seen(event: Object) -> datetime:
    """The latest moment that an Event tells of."""
    return max(meta.parse_timestamp(text) for text in _times(event))


def _times(event: Object) -> Iterator[str]:
    yield meta.metadata(event)["creationTimestamp"]
    for holder, field in (
        (event, "lastTimestamp"),
        (event, "eventTime"),
        (event.get("series") or {}, "lastObservedTime"),
    ):
        if holder.get(field):
            yield holder[field]
