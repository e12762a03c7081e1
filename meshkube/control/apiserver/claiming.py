"""Keeps the claims of Services as the Services are, whatever happened to the store."""

from __future__ import annotations

import logging
import random

import orjson

from meshkube.api import kinds
from meshkube.clock import Clock
from meshkube.control.apiserver import claims
from meshkube.control.apiserver.encoding import object_key
from meshkube.control.apiserver.feed import Feed
from meshkube.store import KeyExists, KeyValue, RevisionMismatch, Store, StoreError, Write

log = logging.getLogger(__name__)

SECONDS = 600.0


async def keep_claims(store: Store, feed: Feed, clock: Clock) -> None:
    """Repairs at once and then every ten minutes, for ever. Any number of servers may do so."""
    while True:
        try:
            await repair(store, feed)
        except StoreError as error:
            log.warning("claims of Services are not checked", extra={"reason": str(error)})
        await clock.sleep(SECONDS * random.uniform(0.8, 1.2))


async def repair(store: Store, feed: Feed) -> int:
    """Makes what is missing and removes what is nobody's; returns how many. Raises `StoreError`."""
    found = (await store.range(claims.ROOT)).kvs
    items = feed.cache(kinds.SERVICE).items.values()
    services = [item.object for item in items]
    repaired = 0
    for key, value in claims.missing(services, found).items():
        repaired += await _make(store, key, value)
    for orphan in claims.orphans(services, found):
        repaired += await _remove(store, orphan)
    if repaired:
        log.info("claims of Services repaired", extra={"claims": repaired})
    return repaired


async def _make(store: Store, key: str, value: bytes) -> bool:
    try:
        made = await store.transact([Write(key, value, 0)])
    except KeyExists:
        return False
    # Its Service may have gone before the claim came.
    if await _held(store, made):
        return True
    await _remove(store, made)
    return False


async def _remove(store: Store, claim: KeyValue) -> bool:
    """Unless it is somebody's: the caches may be behind the claims."""
    if await _held(store, claim):
        return False
    try:
        await store.transact([Write(claim.key, None, claim.mod_revision)])
    except RevisionMismatch:
        return False
    return True


async def _held(store: Store, claim: KeyValue) -> bool:
    namespace, name = claims.owner_of(claim.value)
    found = await store.get(object_key(kinds.SERVICE, namespace, name))
    service = orjson.loads(found.value) if found is not None else None
    return claims.keys_of(service).get(claim.key) == claim.value
