"""Events are kept for an hour after they last happened."""

from __future__ import annotations

from datetime import datetime, timedelta

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.loop import Context, Controller

PAGE = 500
LOOK_AGAIN = 60.0


def last_seen(event: Object) -> datetime | None:
    """When it last happened; None where it does not say."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        meta.metadata(event).get("creationTimestamp"),
    )
    return next((meta.parse_timestamp(time) for time in times if time), None)


def expired(event: Object, ttl: float, now: datetime) -> bool:
    seen = last_seen(event)
    return seen is not None and now - seen > timedelta(seconds=ttl)


async def reconcile(context: Context, key: str) -> float | None:
    token = ""
    while True:
        page = await context.client.list(kinds.EVENT, limit=PAGE, continue_token=token)
        for event in page.items:
            if expired(event, context.settings.event_ttl, context.clock.now()):
                await _delete(context, event)
        token = page.continue_token
        if not token:
            return LOOK_AGAIN


async def _delete(context: Context, event: Object) -> None:
    try:
        await context.client.delete(
            kinds.EVENT, meta.name(event), meta.namespace(event),
            resource_version=meta.resource_version(event),
        )  # fmt: skip
    except ApiError as error:
        # Gone, or it has just happened again.
        if error.code not in (404, 409):
            raise


CONTROLLER = Controller(
    name="event-ttl", keys=lambda caches: ("all",), reconcile=reconcile, workers=1
)
