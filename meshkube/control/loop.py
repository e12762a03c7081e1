"""The one reconcile loop. A controller is a value that says whose keys it reconciles, what else
wakes them, and how; queues, workers, retries, resync and metrics are here, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock
from meshkube.control import room
from meshkube.control.autoscaling import Autoscaling
from meshkube.control.cloud.bare_metal import BareMetal
from meshkube.control.cloud.provider import CloudProvider
from meshkube.control.freshness import Freshness, RecordingClient
from meshkube.control.queue import WorkQueue
from meshkube.control.told import Told
from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)

STALE_LIMIT = 30.0
"""Seconds after which, where a cache still does not show a key's last writes, the API is asked
whether it ever will."""
LOOK_AGAIN = 1.0
SOONEST = 0.01
"""Seconds until a key that asks for it is worked on again at the earliest."""
LONGEST_REST = 1.0
MANY = 1000
AFTER_UNKNOWN = 1.0
"""Least seconds to the next try where a write's outcome is unknown: it may still show up."""

DEPTH = Gauge("meshkube_control_queue_depth", "Keys that wait", ["controller"], registry=REGISTRY)
SECONDS = Histogram(
    "meshkube_control_reconcile_seconds", "Time of one reconcile", ["controller"],
    registry=REGISTRY,
)  # fmt: skip
ERRORS = Counter(
    "meshkube_control_reconcile_errors", "Failed reconciles", ["controller"], registry=REGISTRY
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What controllers are told about the cluster."""

    cluster_ca: str = ""
    """PEM; empty: no `kube-root-ca.crt` is published."""
    pod_cidr: str = ""
    """Each node gets a /24 of it; empty: none."""
    node_grace: float = 20.0
    """Seconds without a heartbeat before a node counts as unreachable; a node whose Lease says that
    it lasts longer gets that long."""
    cloud: CloudProvider = field(default_factory=BareMetal)
    """The place where the hosts run."""
    autoscaling: Autoscaling = Autoscaling()
    legacy_token: Callable[[str, str, str, str], str] | None = None
    """Signs a token for a Secret: namespace, service account, the account's uid, the Secret."""
    sign: Callable[[bytes, Sequence[str], int | None], bytes] | None = None
    """Signs a certificate request (PEM) for these usages and, where they are named, at most so many
    seconds; None: nobody signs here."""


@dataclass(slots=True)
class Context:
    """What one reconcile works with. `client` remembers its writes for the key."""

    client: RecordingClient
    caches: Informers
    events: EventRecorder
    clock: Clock
    settings: Settings
    memory: dict[str, Any]
    """The controller's own, for one term of leadership."""


MapFn = Callable[[Informers, Object | None, Object | None], Iterable[str]]
"""Which keys a change of another object (old, new) wakes."""
KeysFn = Callable[[Informers], Iterable[str]]
Reconcile = Callable[[Context, str], Awaitable[float | None]]
"""Makes the world of one key right; returns seconds after which to look again, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """One controller, as data."""

    name: str
    reconcile: Reconcile
    kind: Kind | None = None
    """Whose keys it reconciles; each change of such an object queues its key."""
    keys: KeysFn | None = None
    """Where its keys are not those of one kind: all of them, for the start and each resync."""
    watches: Mapping[Kind, MapFn] = field(default_factory=dict)
    reads: tuple[Kind, ...] = ()
    """Kinds whose caches it reads without being woken by them."""
    custom: Callable[[Kind], MapFn] | None = None
    """What `watches` would hold of a custom kind; None: they do not concern it."""
    component: str = ""
    """The source of its Events; empty: `<name>-controller`."""
    workers: int = 5
    resync: float = 0.0
    """Seconds between two looks at every key; 0: only on changes."""
    rest: float = 0.0
    """A key is left alone for so many times what its last reconcile took, `LONGEST_REST` at most:
    dear keys that change all the time then take a small part of the loop's time."""

    @property
    def kinds(self) -> frozenset[Kind]:
        own = (self.kind,) if self.kind else ()
        return frozenset({*own, *self.watches, *self.reads})


class ControllerLoop:
    """Runs one controller. Made once; each `run` is one term of leadership."""

    def __init__(
        self,
        controller: Controller,
        *,
        client: Client,
        caches: Informers,
        events: EventRecorder,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.controller = controller
        self._client = client
        self._caches = caches
        self._events = events.named(controller.component or f"{controller.name}-controller")
        self._clock = clock
        self._settings = settings
        self._queue = WorkQueue()
        self._active = False
        self._freshness = self._fresh()
        self._parked: dict[str, float] = {}
        self._looking = False
        self._held: dict[str, float] = {}
        """Keys with a write of unknown outcome, and until when they wait for it to show up, and
        keys that rest."""
        self._memory: dict[str, Any] = {}
        self._refused: set[str] = set()
        """Keys whose last try was refused for a reason that its user can change."""
        self._openings = 0
        self._watches = dict(controller.watches)
        for kind in controller.kinds:
            caches.of(kind).subscribe(self._subscriber(kind))
        for kind in room.KINDS:
            caches.of(kind).subscribe(self._doorkeeper(kind))

    def follow(self, kind: Kind) -> None:
        """A custom kind is served from now on."""
        if self.controller.custom is not None:
            self._watches[kind] = self.controller.custom(kind)
            self._caches.of(kind).subscribe(self._subscriber(kind))

    def _fresh(self) -> Freshness:
        return Freshness(
            self.controller.kinds,
            lambda kind, key: self._caches.of(kind).get(key),
            lambda kind: self._caches.of(kind).resource_version,
        )

    def _subscriber(self, kind: Kind) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            if not self._active:
                return
            self._freshness.observe(kind, old, new)
            if self._parked and not self._looking:
                self._looking = True
                asyncio.get_running_loop().call_soon(self._unpark)
            for key in self._woken(kind, old, new):
                self._queue.add(key)

        return changed

    def _unpark(self) -> None:
        """Once for all the changes that a cache takes in one go: many keys may be parked."""
        self._looking = False
        for key in [key for key in self._parked if not self._freshness.stale(key)]:
            del self._parked[key]
            self._queue.add(key)

    def _doorkeeper(self, kind: Kind) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            namespace = room.opened(kind, old, new) if self._active else None
            if namespace is None:
                return
            self._openings += 1
            for key in sorted(self._refused):
                if key.startswith(f"{namespace}/"):
                    self._queue.add(key)

        return changed

    def _woken(self, kind: Kind, old: Object | None, new: Object | None) -> list[str]:
        keys = []
        obj = new if new is not None else old
        if kind == self.controller.kind and obj is not None:
            keys.append(meta.key(obj))
        wakes = self._watches.get(kind)
        if wakes is None:
            return keys
        try:
            return [*keys, *wakes(self._caches, old, new)]
        except Exception:
            log.exception("a change was not understood", extra=self._about(kind.plural))
            return keys

    def _about(self, key: str, **more: Any) -> dict[str, Any]:
        return {"controller": self.controller.name, "key": key, **more}

    async def run(self) -> None:
        """Works until cancelled."""
        self._queue, self._freshness = WorkQueue(), self._fresh()
        self._parked, self._held, self._memory = {}, {}, {}
        self._refused = set()
        self._active = True
        DEPTH.labels(self.controller.name).set_function(lambda: len(self._queue))
        self._queue_all()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.controller.workers):
                    group.create_task(self._work())
                if self.controller.resync:
                    group.create_task(self._resync())
        finally:
            self._active = False
            self._queue.close()

    def _queue_all(self) -> None:
        if self.controller.keys is not None:
            for key in self.controller.keys(self._caches):
                self._queue.add(key)
        if self.controller.kind is not None:
            for obj in self._caches.of(self.controller.kind).list():
                self._queue.add(meta.key(obj))

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(self.controller.resync)
            self._queue_all()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                if not await self._park(key):
                    await self._once(key)
            finally:
                self._queue.done(key)
            # A look that awaits nothing and wants another at once would let nobody else run.
            await asyncio.sleep(0)

    async def _park(self, key: str) -> bool:
        """True where the key must wait for the caches; a change there wakes it. However far a cache
        is behind, nothing is done on it twice."""
        held = self._held.get(key, 0.0) - self._clock.monotonic()
        if held > 0:
            self._queue.add_after(key, held)
            return True
        self._held.pop(key, None)
        if self._freshness.stale(key) and not await self._lost(key):
            self._queue.add_after(key, LOOK_AGAIN)
            return True
        self._parked.pop(key, None)
        return False

    async def _lost(self, key: str) -> bool:
        """Whether the API itself does not know what the key waits for; asked now and then."""
        since = self._parked.setdefault(key, self._clock.monotonic())
        if self._clock.monotonic() - since < STALE_LIMIT:
            return False
        self._parked[key] = self._clock.monotonic()
        try:
            await self._freshness.drop_lost(key, self._client)
        except ApiError as error:
            log.warning("a key waits for its cache", extra=self._about(key, error=error.message))
            return False
        lost = not self._freshness.stale(key)
        text = "our own writes are gone" if lost else "the cache is behind: the key waits on"
        log.warning(text, extra=self._about(key))
        return lost

    async def _once(self, key: str) -> None:
        context = Context(
            RecordingClient(self._client, self._freshness, key),
            self._caches,
            self._events,
            self._clock,
            self._settings,
            self._memory,
        )
        began, openings = perf_counter(), self._openings
        try:
            again = await self.controller.reconcile(context, key)
        except Exception as error:
            self._failed(key, error)
            if key in self._refused and self._openings != openings:
                self._queue.add(key)  # refused by what has changed meanwhile
        else:
            self._queue.forget(key)
            self._refused.discard(key)
            if again is not None:
                self._queue.add_after(key, max(again, SOONEST))
        finally:
            took = perf_counter() - began
            SECONDS.labels(self.controller.name).observe(took)
            self._rest(key, took)

    def _rest(self, key: str, took: float) -> None:
        rest = min(took * self.controller.rest, LONGEST_REST)
        if rest <= 0:
            return
        now = self._clock.monotonic()
        self._held[key] = max(now + rest, self._held.get(key, 0.0))
        if len(self._held) > MANY:
            self._held = {key: until for key, until in self._held.items() if until > now}

    def _failed(self, key: str, error: Exception) -> None:
        api = error if isinstance(error, ApiError) else None
        unknown = api is not None and api.code >= 500
        if unknown:
            self._held[key] = self._clock.monotonic() + AFTER_UNKNOWN
        delay = self._queue.failed(key, at_least=AFTER_UNKNOWN if unknown else 0.0)
        failures = self._queue.failures(key)
        if api is not None and _passes(api) and failures < 8:
            log.debug("reconcile is repeated", extra=self._about(key, error=api.message))
            return
        now_and_then = failures & (failures - 1) == 0
        about = self._about(key, error=str(error), failures=failures, again_in=round(delay, 3))
        if isinstance(error, Told):
            self._refused.add(key)
            if now_and_then:
                log.info("reconcile was refused", extra=about)
            return
        ERRORS.labels(self.controller.name).inc()
        if now_and_then:
            log.error("reconcile failed", extra=about, exc_info=None if api else error)


def _passes(error: ApiError) -> bool:
    """True for what the next look puts right: the cache was behind, or the namespace is going."""
    terminating = error.code == 403 and "being terminated" in error.message
    return terminating or error.code in (404, 409)
