"""The part `aggregation`: keeps APIServices true, and passes requests on to who answers for them.

Every server does this, as every kube-apiserver does; all that it writes is safe to write twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informer
from meshkube.clock import Clock
from meshkube.control.apiserver import discovery
from meshkube.control.apiserver.aggregation import front_proxy, local
from meshkube.control.apiserver.aggregation.asking import Asking
from meshkube.control.apiserver.aggregation.availability import (
    LOCAL,
    PASSED,
    Unavailable,
    with_condition,
)
from meshkube.control.apiserver.aggregation.front_proxy import Authorities
from meshkube.control.apiserver.aggregation.remotes import GroupVersion, Remote, Remotes, read
from meshkube.control.apiserver.catalog import Catalog
from meshkube.control.apiserver.http import Call
from meshkube.tunnel.forwarding import Forwarder, Unreachable

log = logging.getLogger(__name__)

CHECK_EVERY = 30.0
"""Seconds between two looks at a remote that answers."""
LOOK_AGAIN = 1.0
"""Between two looks while one does not: it may just be starting."""
_KIND = kinds.API_SERVICE


class Aggregator:
    """`remotes` is who answers for what; `generation` grows whenever discovery changes by it."""

    name = "aggregation"

    def __init__(
        self,
        *,
        client: Client,
        catalog: Catalog,
        asking: Asking,
        authorities: Authorities,
        clock: Clock,
    ) -> None:
        self.remotes = Remotes()
        self.resources: dict[GroupVersion, list[Object]] = {}
        self.generation = 0
        self._client = client
        self._catalog = catalog
        self._asking = asking
        self._authorities = authorities
        self._clock = clock
        self._forwarder = Forwarder()
        self._changed = asyncio.Event()
        self._informer = Informer(client, _KIND, clock=clock)
        self._informer.subscribe(lambda old, new: self._read())

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`."""
        unfollow = self._catalog.follow(self._changed.set)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informer.run())
                await self._informer.wait_synced()
                self._read()
                ready()
                await self._keep()
        finally:
            unfollow()
            await self._asking.aclose()
            await self._forwarder.aclose()

    def _read(self) -> None:
        """What is stored now. Everything else follows from it."""
        if not self._informer.synced:
            return
        before, self.remotes = self.remotes, Remotes(self._informer.list())
        if before or self.remotes:
            self.generation += 1
        self.resources = {
            key: said for key, said in self.resources.items() if self.remotes.get(*key)
        }
        self._asking.forget({(one.bundle, one.skips) for one in self.remotes})
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._tell_authorities()
                await self._make_local()
                missing = await self._check_all()
            except ApiError as error:
                log.warning("APIServices wait", extra={"reason": error.message})
                missing = True
            with contextlib.suppress(TimeoutError):
                # Not more often than that, whatever changes: each write of ours is a change too.
                await self._clock.sleep(LOOK_AGAIN / 4)
                async with asyncio.timeout(LOOK_AGAIN if missing else CHECK_EVERY):
                    await self._changed.wait()

    async def _tell_authorities(self) -> None:
        name, namespace = front_proxy.NAME, front_proxy.NAMESPACE
        try:
            stored = await self._client.get(kinds.CONFIG_MAP, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            made = front_proxy.settings(self._authorities, None)
            await self._settle(self._client.create(kinds.CONFIG_MAP, made))
            return
        wanted = front_proxy.settings(self._authorities, stored)
        if wanted["data"] != stored.get("data"):
            changed = {**meta.copy(stored), "data": wanted["data"]}
            await self._settle(self._client.update(kinds.CONFIG_MAP, changed))

    async def _make_local(self) -> None:
        groups = discovery.grouped(self._catalog.kinds)
        wanted = {meta.name(one): one for one in local.wanted(groups)}
        stored = {meta.name(one): one for one in self._informer.list()}
        for name in wanted.keys() - stored.keys():
            await self._settle(self._client.create(_KIND, wanted[name]))
        for name in stored.keys() - wanted.keys():
            if local.ours(stored[name]):
                await self._settle(self._client.delete(_KIND, name))

    async def _settle(self, write: Awaitable[object]) -> None:
        """Another server may have been faster, or a user's change may lie between."""
        try:
            await write
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _check_all(self) -> bool:
        """Writes what is found of each; whether one does not answer."""
        missing = False
        for api in self._informer.list():
            remote = read(api)
            found = LOCAL if remote is None else await self._check(remote)
            missing |= not found[0]
            changed = with_condition(api, found, self._clock.now())
            if changed is not None:
                await self._settle(self._client.update(_KIND, changed, subresource="status"))
        return missing

    async def _check(self, remote: Remote) -> tuple[bool, str, str]:
        key = remote.group, remote.version
        try:
            said = await self._asking.resources(remote)
        except Unavailable as error:
            return False, error.reason, error.message
        if said != self.resources.get(key):
            self.resources[key] = said
            self.generation += 1
        return PASSED

    async def handle(self, call: Call, remote: Remote) -> web.StreamResponse:
        """Passes a request on. Raises `ApiError` 503."""
        if remote.refused:
            raise errors.not_reached(remote.refused)
        try:
            target = self._asking.target(
                remote, call.request.raw_path, call.user, list(call.request.headers)
            )
            return await self._forwarder.forward(call.request, target)
        except (Unavailable, Unreachable) as error:
            self._changed.set()  # what is said of it is no longer true
            raise errors.not_reached(str(error)) from None
