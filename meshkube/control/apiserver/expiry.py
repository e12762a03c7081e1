"""Events are kept for an hour after they were last seen, as kube-apiserver keeps them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.options import DeleteOptions

if TYPE_CHECKING:
    from meshkube.control.apiserver.registry import Registry

log = logging.getLogger(__name__)

KEPT = timedelta(hours=1)
SWEEP_SECONDS = 60.0


async def sweep_events(registry: Registry) -> None:
    """Removes old Events, for ever."""
    while True:
        await registry.clock.sleep(SWEEP_SECONDS)
        try:
            await sweep_once(registry)
        except ApiError as error:
            log.warning("old events are not removed yet", extra={"reason": error.message})


async def sweep_once(registry: Registry) -> None:
    """Raises `ApiError` where the store is away."""
    oldest = registry.clock.now() - KEPT
    items = registry.feed.cache(kinds.EVENT).items
    for event in [item.object for item in items.values() if last_seen(item.object) < oldest]:
        options = DeleteOptions(uid=meta.uid(event), resource_version=meta.resource_version(event))
        try:
            await registry.delete(kinds.EVENT, meta.name(event), meta.namespace(event), options)
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
