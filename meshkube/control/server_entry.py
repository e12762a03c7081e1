"""Keeps this server among the endpoints of default/kubernetes, and takes the dead ones out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import Clock
from meshkube.control import server_endpoints as entries
from meshkube.control.server_endpoints import LEASE_NAMESPACE, NAMESPACE, Place

log = logging.getLogger(__name__)

DURATION = 8
"""Seconds without a sign of life after which the others take a server out."""
EVERY = 3.0
LABELS = f"{entries.LEASE_LABEL}={entries.LEASE_LABELS[entries.LEASE_LABEL]}"


class ServerEntry:
    """Part `server-entry` of each server where there may be several. Each renews a Lease of its
    own; each writes what all the Leases say, so that it does not matter who dies."""

    name = "server-entry"

    def __init__(self, *, client: Client, node_name: str, place: Place, clock: Clock) -> None:
        """`place` is where others reach this server's API."""
        self._client = client
        self._node = node_name
        self._place = place
        self._clock = clock
        self._watchful = entries.Watchful()

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`. When cancelled it says so: clients go elsewhere before it ends."""
        try:
            while True:
                try:
                    async with asyncio.timeout(EVERY):
                        await self._turn()
                    ready()
                except (ApiError, TimeoutError) as error:
                    log.warning("not among the API's endpoints", extra={"reason": str(error)})
                await self._clock.sleep(EVERY)
        finally:
            await self._leave()

    async def _turn(self) -> None:
        await self._renew()
        places, dead = await self._living()
        await self._write(places)
        for one in dead:
            about = {"server": meta.name(one), "address": entries.place_of(one)}
            log.warning("a server is silent: no longer an endpoint of the API", extra=about)
            await self._forget(one)

    async def _renew(self) -> None:
        now = meta.micro_timestamp(self._clock.now())
        wanted = entries.lease(self._node, self._place, DURATION, now)
        change = {"metadata": {"annotations": wanted["metadata"]["annotations"]},
                  "spec": wanted["spec"]}  # fmt: skip
        name = meta.name(wanted)
        try:
            await self._client.patch(kinds.LEASE, name, change, LEASE_NAMESPACE, type="merge")
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(kinds.LEASE, wanted)

    async def _living(self) -> tuple[list[Place], list[Object]]:
        found = await self._client.list(kinds.LEASE, LEASE_NAMESPACE, labels=LABELS)
        return self._watchful.living(found.items, self._clock.monotonic())

    async def _write(self, places: list[Place]) -> None:
        if not places:
            # The last one to go leaves its address: nobody else has a better one.
            return
        kept = {entries.NAME}
        for kind, obj in entries.objects(places):
            kept.add(meta.name(obj))
            await self._put(kind, obj)
        label = f"kubernetes.io/service-name={entries.NAME}"
        for stale in (await self._client.list(kinds.ENDPOINT_SLICE, NAMESPACE, labels=label)).items:
            if meta.name(stale) not in kept:
                await self._client.delete(kinds.ENDPOINT_SLICE, meta.name(stale), NAMESPACE)

    async def _put(self, kind: Kind, obj: Object) -> None:
        try:
            stored = await self._client.get(kind, meta.name(obj), NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._client.create(
                kind, {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
            )
            return
        if not entries.same(obj, stored):
            fields = {key: value for key, value in obj.items() if key != "metadata"}
            await self._client.update(kind, {**meta.copy(stored), **fields})

    async def _forget(self, dead: Object) -> None:
        try:
            await self._client.delete(
                kinds.LEASE, meta.name(dead), LEASE_NAMESPACE,
                resource_version=meta.resource_version(dead),
            )  # fmt: skip
        except ApiError as error:
            # Another server was faster, or it lives after all.
            if error.code not in (404, 409):
                raise

    async def _leave(self) -> None:
        """Best effort: who cannot say it is missed soon enough."""
        try:
            async with asyncio.timeout(EVERY):
                await self._client.delete(
                    kinds.LEASE, entries.LEASE_PREFIX + self._node, LEASE_NAMESPACE
                )
                await self._write((await self._living())[0])
        except (ApiError, TimeoutError) as error:
            log.debug("did not take leave", extra={"reason": str(error)})
