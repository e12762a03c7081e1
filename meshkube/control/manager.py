"""The control plane of one server: warm caches always, controllers and scheduler while it leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock, SystemClock
from meshkube.control import indexes
from meshkube.control.controllers import CONTROLLERS, cloud_controllers
from meshkube.control.election import Election, Timing
from meshkube.control.fence import Fence
from meshkube.control.loop import Controller, ControllerLoop, Settings
from meshkube.control.scheduler.loop import Scheduler

log = logging.getLogger(__name__)

CATCH_UP = 2.0
"""Seconds a new leader waits at most for its caches to show what the last leader wrote."""


class CustomKinds(Protocol):
    """Which custom kinds there are (`apiserver.catalog.Catalog` is one)."""

    @property
    def custom(self) -> tuple[Kind, ...]: ...

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Calls `follower` after every change, until what it returns is called."""
        ...


class _CustomKinds:
    """Keeps informers, and the controllers that want to know, on the custom kinds of the moment."""

    def __init__(
        self, source: CustomKinds | None, caches: Informers, loops: list[ControllerLoop]
    ) -> None:
        self._source = source
        self._caches = caches
        self._loops = loops
        self._known: set[Kind] = set()
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        if self._source is not None:
            self._stop = self._source.follow(self._changed)
            self._changed()

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _changed(self) -> None:
        assert self._source is not None
        now = set(self._source.custom)
        for kind in self._known - now:
            self._caches.drop(kind)
        for kind in now - self._known:
            indexes.follow(self._caches, kind)
            for loop in self._loops:
                loop.follow(kind)
        self._known = now


class ControlPlane:
    """A Part. Contends for the Lease kube-system/meshkube as `identity` (one per data directory),
    and leads when it gets it. Losing it stops the controllers, never the process.

    `client` fills the caches and holds the Lease; `client_of` gives each controller, by name, and
    the scheduler the client that it writes with: as a user of its own, where that is wanted.
    `cluster_ca` is the PEM text that pods are told to trust; `pod_cidr` is shared out to nodes;
    `custom` says which kinds definitions have added; `legacy_token` signs tokens for Secrets
    (`loop.Settings`). `fence` is what the clients of `client_of` write through: it holds the term
    while this server leads.
    """

    name = "controllers"

    def __init__(
        self,
        *,
        client: Client,
        identity: str,
        clock: Clock | None = None,
        cluster_ca: str = "",
        pod_cidr: str = "",
        controllers: bool = True,
        scheduler: bool = True,
        settings: Settings | None = None,
        timing: Timing | None = None,
        client_of: Callable[[str], Client] | None = None,
        legacy_token: Callable[[str, str, str, str], str] | None = None,
        fence: Fence | None = None,
        custom: CustomKinds | None = None,
    ) -> None:
        self._fence = fence
        self._custom = custom
        self._client = client
        self._client_of = client_of or (lambda name: client)
        self._identity = identity
        self._clock = clock or SystemClock()
        self._settings = settings or Settings(
            cluster_ca=cluster_ca,
            pod_cidr=pod_cidr,
            legacy_token=legacy_token,
        )
        self._controllers: tuple[Controller, ...] = (
            (*CONTROLLERS, *cloud_controllers(self._settings.cloud)) if controllers else ()
        )
        self._schedules = scheduler
        self._timing = timing
        self._election: Election | None = None

    @property
    def leading(self) -> bool:
        """True while this server's controllers run."""
        return self._election is not None and self._election.leading

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled; ready once the caches are full, leading or not."""
        caches = Informers(self._client, indexes.part)
        indexes.install(caches)
        events = EventRecorder(self._client, "meshkube", self._identity, self._clock)
        loops = [
            ControllerLoop(
                controller,
                client=self._client_of(controller.name),
                caches=caches,
                events=events,
                clock=self._clock,
                settings=self._settings,
            )
            for controller in self._controllers
        ]
        custom = _CustomKinds(self._custom, caches, loops)
        scheduler = Scheduler(self._client_of("scheduler"), caches, events, self._clock)
        election = self._election = Election(
            client=self._client,
            identity=self._identity,
            clock=self._clock,
            events=events,
            timing=self._timing,
            fence=self._fence,
        )

        async def work() -> None:
            await self._catch_up(caches)
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop.run(), name=f"controller {loop.controller.name}")
                if self._schedules:
                    group.create_task(scheduler.run(), name="scheduler")

        async with asyncio.TaskGroup() as group:
            group.create_task(caches.run())
            group.create_task(events.run())
            await caches.wait_synced()
            ready()
            with custom:
                await election.run(work)

    async def _catch_up(self, caches: Informers) -> None:
        """What is made under random names or numbered must be seen before more of it is."""
        try:
            async with asyncio.timeout(CATCH_UP):
                for kind in (kinds.NODE, kinds.SERVICE, kinds.REPLICA_SET, kinds.POD):
                    await self._caught_up(caches, kind)
        except (TimeoutError, ApiError) as error:
            log.warning("leads on caches that may be behind", extra={"reason": str(error)})

    async def _caught_up(self, caches: Informers, kind: Kind) -> None:
        cache = caches.of(kind)
        listed = (await self._client.list(kind)).items
        newest = max((_version(meta.resource_version(obj)) for obj in listed), default=0)
        behind = {meta.key(obj): _version(meta.resource_version(obj)) for obj in listed}
        while _version(cache.resource_version) < newest:
            behind = {
                key: version
                for key, version in behind.items()
                if _version(meta.resource_version(cache.get(key) or {})) < version
            }
            if not behind:
                return
            await asyncio.sleep(0.01)


def _version(text: str) -> int:
    return int(text) if text.isdigit() else 0
