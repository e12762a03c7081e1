"""Deletes certificate requests that nobody needs any more.

Periods are those of Kubernetes' csrcleaner: issued, denied and failed ones stay for an hour, those
that nobody decides on for a day; one whose certificate has ended goes at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from meshkube import pki
from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.certificates import conditions
from meshkube.control.loop import Context, Controller

REQUEST = kinds.CERTIFICATE_SIGNING_REQUEST
SETTLED = timedelta(hours=1)
PENDING = timedelta(hours=24)


def ends(request: Object) -> datetime:
    """When it may go."""
    made = meta.parse_timestamp(meta.metadata(request)["creationTimestamp"])
    issued = conditions.certificate(request)
    moments = [made + PENDING]
    for type in (conditions.DENIED, conditions.FAILED, *([conditions.APPROVED] if issued else [])):
        found = conditions.condition(request, type)
        if found is not None:
            since = found.get("lastUpdateTime") or found.get("lastTransitionTime")
            moments.append((meta.parse_timestamp(since) if since else made) + SETTLED)
    if issued:
        try:
            moments.append(pki.not_after(issued))
        except ValueError:
            # Another signer's, and no certificate at all.
            pass
    return min(moments)


async def reconcile(context: Context, key: str) -> float | None:
    request = context.caches.of(REQUEST).get(key)
    if request is None or meta.deleting(request):
        return None
    left = (ends(request) - context.clock.now()).total_seconds()
    if left > 0:
        return left
    try:
        await context.client.delete(REQUEST, key, uid=meta.uid(request))
    except ApiError as error:
        if error.code not in (404, 409):
            raise
    return None


CONTROLLER = Controller(
    name="csrcleaner",
    kind=REQUEST,
    component="certificate-controller",
    reconcile=reconcile,
    workers=1,
)
