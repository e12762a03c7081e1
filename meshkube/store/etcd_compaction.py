"""Compaction of etcd's history by whoever comes first: safe with any number of servers.

As kube-apiserver does it: the key `<prefix>/meta/compaction` says at which revision a turn was
taken last. Each server tries, once in the time history is kept, to replace what it saw there: the
one that succeeds compacts up to the revision of the turn before, the others learn what is there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from binascii import a2b_base64
from dataclasses import dataclass

import orjson

from meshkube.store import etcd_wire as wire
from meshkube.store.base import StoreError, StoreFull
from meshkube.store.etcd_client import EtcdClient, Outdated
from meshkube.store.etcd_wire import Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the key holds: its own revision, and the cluster's when that turn was taken."""

    key_revision: int = 0
    revision: int = 0


class Compactor:
    """Takes its turns until cancelled."""

    def __init__(self, client: EtcdClient, layout: Layout, seconds: float) -> None:
        self._client = client
        self._layout = layout
        self._seconds = seconds
        self._known = Turn()
        self._current = 0
        """The cluster's revision at our last try."""

    async def run(self) -> None:
        while True:
            # Servers that were started together try at different times.
            await asyncio.sleep(self._seconds * random.uniform(0.95, 1.05))
            try:
                await self.take_turn()
            except StoreFull:
                # No turn can be noted, but room is what is needed now.
                await self._make_room()
            except StoreError as error:
                log.warning("no compaction of etcd", extra={"reason": str(error)})

    async def _make_room(self) -> None:
        try:
            if self._known.revision:
                await compact(self._client, self._known.revision)
        except StoreError as error:
            log.warning("no compaction of etcd", extra={"reason": str(error)})

    async def take_turn(self) -> bool:
        """True where it was ours. Raises `StoreError`."""
        taken, found = await self._try()
        before, self._known = self._known, found
        if taken and before.revision:
            await compact(self._client, before.revision)
        return taken

    async def _try(self) -> tuple[bool, Turn]:
        key = wire.text64(self._layout.compaction)
        now = wire.revision_of(await self._client.read(wire.RANGE, self._layout.head()))
        unchanged = {
            "key": key,
            "target": "MOD",
            "result": "EQUAL",
            "mod_revision": self._known.key_revision,
        }
        put = {"request_put": {"key": key, "value": wire.text64(str(now).encode())}}
        look = {"request_range": {"key": key}}
        body = orjson.dumps({"compare": [unchanged], "success": [put], "failure": [look]})
        answer = await self._client.write(wire.TXN, body)
        if answer.get("succeeded"):
            return True, Turn(wire.revision_of(answer), now)
        kvs = answer["responses"][0]["response_range"].get("kvs")
        if not kvs:
            return False, Turn()
        text = a2b_base64(kvs[0].get("value", ""))
        revision = int(text) if text.isdigit() else 0
        return False, Turn(int(kvs[0]["mod_revision"]), revision)


async def compact(client: EtcdClient, revision: int) -> None:
    """Forgets the history before `revision`, of the whole cluster. Raises `StoreError`."""
    try:
        # Twice does no harm: it may be sent again.
        await client.read(wire.COMPACT, orjson.dumps({"revision": revision}))
    except Outdated:
        # Somebody was faster.
        return
    log.debug("etcd is compacted", extra={"revision": revision})
