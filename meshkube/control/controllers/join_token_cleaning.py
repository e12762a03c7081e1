"""Join tokens that have ended go: their Secrets are deleted."""

from __future__ import annotations

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.control.auth import join_tokens
from meshkube.control.loop import Context, Controller
from meshkube.join_token import SECRET_TYPE

LONGEST_SLEEP = 24 * 3600.0


async def reconcile(context: Context, key: str) -> float | None:
    secret = context.caches.of(kinds.SECRET).get(key)
    if secret is None or secret.get("type") != SECRET_TYPE or meta.deleting(secret):
        return None
    end = join_tokens.expiration(secret)
    left = (end - context.clock.now()).total_seconds() if end is not None else 0.0
    if left > 0:
        return min(left, LONGEST_SLEEP)
    try:
        await context.client.delete(
            kinds.SECRET, meta.name(secret), meta.namespace(secret), uid=meta.uid(secret)
        )
    except ApiError as error:
        if error.code not in (404, 409):
            raise
    return None


CONTROLLER = Controller(
    name="tokencleaner",
    kind=kinds.SECRET,
    component="token-cleaner",
    reconcile=reconcile,
    workers=1,
)
