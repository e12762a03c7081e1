"""The Secret with the key of the ingress' session tickets, replaced from time to time: with one key
at all nodes, a client that comes back resumes its TLS session at whichever it meets."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from datetime import datetime, timedelta

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.loop import Context, Controller

NAMESPACE, NAME = "kube-system", "meshkube-ingress-tickets"
KEY = f"{NAMESPACE}/{NAME}"
SINCE = "meshkube.io/replaced"
LIFE = timedelta(hours=12)
"""Whoever reads a key can read what was sent in sessions resumed with it: none is kept for longer
than twice this."""
SIZE = 48


def due(secret: Object | None, now: datetime) -> timedelta:
    """How long until the key has to be replaced; nothing or less: now."""
    text = meta.annotations(secret).get(SINCE, "") if secret is not None else ""
    try:
        since = meta.parse_timestamp(text)
    except ValueError:
        return timedelta(0)
    if not (secret or {}).get("data"):
        return timedelta(0)
    return LIFE - (now - since) if since <= now else timedelta(0)


def renewed(secret: Object | None, now: datetime) -> Object:
    """The Secret with a new key, beside which the last one stays: sessions begun with it are still
    resumed. What else it holds stays too."""
    new = meta.copy(secret) if secret is not None else _empty()
    new["metadata"].setdefault("annotations", {})[SINCE] = meta.timestamp(now)
    data = {"key": base64.b64encode(os.urandom(SIZE)).decode()}
    if last := (new.get("data") or {}).get("key"):
        data["previous"] = last
    new["data"] = data
    return new


def _empty() -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "type": "meshkube.io/ingress-tickets",
    }


async def reconcile(context: Context, key: str) -> float | None:
    secret = context.caches.of(kinds.SECRET).get(KEY)
    now = context.clock.now()
    left = due(secret, now)
    if left > timedelta(0):
        return left.total_seconds()
    new = renewed(secret, now)
    if secret is None:
        await context.client.create(kinds.SECRET, new, NAMESPACE)
    else:
        await context.client.update(kinds.SECRET, new)
    return LIFE.total_seconds()


def _own(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    return [KEY] if meta.key(new if new is not None else old or {}) == KEY else []


CONTROLLER = Controller(
    name="ingress-tickets",
    keys=lambda caches: [KEY],
    watches={kinds.SECRET: _own},
    reconcile=reconcile,
    workers=1,
)
