"""The part that keeps this host's rules in step with Services and EndpointSlices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from prometheus_client import Counter, Gauge, Histogram

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock, SystemClock
from meshkube.dataplane.health_ports import HealthPorts
from meshkube.dataplane.kernel import Kernel, KernelError
from meshkube.dataplane.network_plan import node_addresses, peers
from meshkube.dataplane.proxy_health import ProxyHealth, mode
from meshkube.dataplane.rules import NODES, Table, is_class, is_memory, of_nodes, service_of
from meshkube.dataplane.services import Frontends, Left, Settings, frontends
from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)

# A change after a quiet moment goes to the kernel at once; in a burst (a rollout's) changes wait
# this long for each other and become one transaction.
GATHER = 0.005
QUIET = 0.02
CHECK_EVERY = 5.0
RETRY_AFTER = 1.0
# How many Services are compiled before the event loop gets its turn again.
SLICE = 100
# Above this many flows' fronts in one burst, UDP clients are left to their own time-outs.
MOST_STALE = 1000
_INDEX = "service"
ZONE = "topology.kubernetes.io/zone"

SERVICES = Gauge("meshkube_dataplane_services", "Services that have rules.", registry=REGISTRY)
ENDPOINTS = Gauge(
    "meshkube_dataplane_endpoints",
    "Endpoints that have rules, once for each address and port that leads to them.",
    registry=REGISTRY,
)
SYNC = Histogram(
    "meshkube_dataplane_sync_seconds",
    "From the first event of a burst until the kernel has it.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    registry=REGISTRY,
)
FAILURES = Counter("meshkube_dataplane_failures", "Refused transactions.", registry=REGISTRY)
REPAIRS = Counter(
    "meshkube_dataplane_repairs", "Times somebody else's change was undone.", registry=REGISTRY
)
FORGOTTEN = Counter(
    "meshkube_dataplane_udp_flows_forgotten",
    "UDP flows ended because their backend left.",
    registry=REGISTRY,
)


class ServiceProxy:
    """Turns Services into kernel rules. The rules stay when it stops."""

    name = "dataplane"

    def __init__(
        self,
        *,
        client: Client,
        kernel: Kernel,
        node_name: str,
        pod_cidrs: Sequence[str],
        service_cidrs: Sequence[str],
        node_ip: str = "",
        skip: Collection[str] = frozenset(),
        local: Collection[str] = frozenset(),
        health_port: int = 0,
        status_port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        """`pod_cidrs` and `service_cidrs` are the whole cluster's, one of each family.
        `skip`: Service addresses that this process answers itself; `local`: those that another one
        of this host may. `health_port` answers balancers that ask about the node, `status_port`
        programs of this host; 0: nobody does."""
        self._client = client
        self._kernel = kernel
        self._node_ip = node_ip
        self._clock = clock or SystemClock()
        self._settings = Settings(
            node_name=node_name,
            pod_cidrs=tuple(pod_cidrs),
            service_cidrs=tuple(service_cidrs),
            skip=frozenset(skip),
            local=frozenset(local),
        )
        self._table = Table()
        self._health = HealthPorts(lambda: self._in_step)
        self._in_step = False
        """Whether the kernel took the last change."""
        told = ProxyHealth(lambda: self._in_step, self._own, self._clock.now)
        if health_port:
            self._health.serve(health_port, told.health)
        if status_port:
            self._health.serve(status_port, mode(kernel.mode), "127.0.0.1")
        self._dirty: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._informers = Informers(client)
        self._events = EventRecorder(client, "meshkube-dataplane", node_name, self._clock)

    @property
    def in_step(self) -> bool:
        """Whether the kernel has the rules as this part wants them."""
        return self._in_step

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until cancelled. Raises `KernelError` where this host cannot have the rules."""
        self._table, self._dirty = Table(), {}
        self._informers = Informers(self._client)
        services = self._informers.of(kinds.SERVICE)
        slices = self._informers.of(kinds.ENDPOINT_SLICE)
        slices.add_index(_INDEX, lambda piece: (service_of(piece),))
        nodes = self._informers.of(kinds.NODE)
        services.subscribe(self._service_changed)
        slices.subscribe(self._slice_changed)
        nodes.subscribe(self._node_changed)
        try:
            await self._kernel.open(self._settings, self._node_ip)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._informers.run())
                group.create_task(self._health.run())
                group.create_task(self._events.run())
                # Until both are known, the rules of an earlier run serve on.
                await self._informers.wait_synced()
                await self._compile()
                await self._load()
                # Flows from before this start are as good as any: no backend is known to have left.
                self._table.take_stale()
                self._table.take_left()
                ready()
                if self._kernel.limits:
                    said = self._kernel.limits
                    self._events.event(self._node(), "Warning", "ServicesInUserspace", said)
                await self._follow()
        finally:
            await self._kernel.close()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        self._touch(meta.key(new or old or {}))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for piece in (old, new):
            if piece is not None:
                self._touch(service_of(piece))

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if node_addresses(old or {}) != node_addresses(new or {}) or _cidr(old) != _cidr(new):
            self._touch(NODES)
        if meta.name(new or old or {}) == self._settings.node_name:
            self._zone_changed(meta.labels(new or {}).get(ZONE, ""))

    def _zone_changed(self, zone: str) -> None:
        """This node is of another zone: other endpoints are close."""
        if zone == self._settings.zone:
            return
        self._settings = replace(self._settings, zone=zone)
        for key in self._table.keys() - {NODES}:
            self._touch(key)

    def _touch(self, key: str) -> None:
        self._dirty.setdefault(key, self._clock.monotonic())
        self._wake.set()

    async def _follow(self) -> None:
        synced = 0.0
        next_check = self._clock.monotonic() + CHECK_EVERY
        while True:
            if not self._dirty:
                await self._wait(next_check - self._clock.monotonic())
            if self._dirty:
                busy = self._clock.monotonic() - synced < QUIET
                await asyncio.sleep(GATHER if busy else 0)
                await self._sync()
                synced = self._clock.monotonic()
            if self._clock.monotonic() >= next_check:
                await self._check()
                next_check = self._clock.monotonic() + CHECK_EVERY

    async def _wait(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _sync(self) -> None:
        since = min(self._dirty.values())
        await self._compile()
        change, left = self._table.take(), self._table.take_left()
        if change:
            try:
                await self._kernel.change(change, left)
            except KernelError as error:
                FAILURES.inc()
                log.warning("change refused: loads all rules anew", extra={"reason": str(error)})
                await self._load()
            SYNC.observe(self._clock.monotonic() - since)
            self._count()
        await self._forget()
        await self._release(left)

    async def _compile(self) -> None:
        """Brings the table up to date with what was touched, in slices."""
        services = self._informers.of(kinds.SERVICE)
        slices = self._informers.of(kinds.ENDPOINT_SLICE)
        while self._dirty:
            for key in _first(self._dirty, SLICE):
                del self._dirty[key]
                if key == NODES:
                    self._table.put(key, self._of_nodes())
                    continue
                service = services.get(key)
                pieces = slices.by_index(_INDEX, key)
                fronts = self._frontends(key, service, pieces)
                self._health.put(key, fronts.health)
                self._say_what_cannot_be(service)
                self._table.put(key, fronts)
            if self._dirty:
                await asyncio.sleep(0)

    def _say_what_cannot_be(self, service: Object | None) -> None:
        if service is None:
            return
        ports = (service.get("spec") or {}).get("ports") or ()
        for protocol, reason in self._kernel.cannot.items() if ports else ():
            if any(isinstance(port, dict) and port.get("protocol") == protocol for port in ports):
                node = self._settings.node_name
                said = f"Node {node} does not carry {protocol}: {reason}"
                subject = {"apiVersion": "v1", "kind": "Service", **service}
                self._events.event(subject, "Warning", "ProtocolNotServed", said)

    def _of_nodes(self) -> Frontends:
        found, _ = peers(self._informers.of(kinds.NODE).list())
        return of_nodes(address for peer in found.values() for address in peer.addresses)

    def _frontends(self, key: str, service: Object | None, pieces: Iterable[Object]) -> Frontends:
        if service is None:
            return Frontends()
        try:
            return frontends(service, pieces, self._settings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("Service left out", extra={"service": key, "reason": repr(error)})
            return Frontends()

    async def _load(self) -> None:
        """The whole table, again and again until the kernel takes it."""
        while True:
            self._table.take()
            try:
                await self._kernel.load(self._table.ruleset)
                self._in_step = True
                self._count()
                return
            except KernelError as error:
                FAILURES.inc()
                self._in_step = False
                log.error("rules refused: tries again", extra={"reason": str(error)})
            await self._clock.sleep(RETRY_AFTER)
            await self._compile()

    async def _check(self) -> None:
        try:
            found = await self._kernel.check(self._table.ruleset)
        except KernelError as error:
            FAILURES.inc()
            log.warning("rules could not be checked", extra={"reason": str(error)})
            return
        for fault in found:
            REPAIRS.inc()
            log.warning("repaired", extra={"fault": fault})
        if found:
            said = "Somebody changed what carries Services on this node; put right: "
            self._events.event(self._node(), "Warning", "RulesRepaired", said + "; ".join(found))

    def _own(self) -> Object | None:
        """This node."""
        return self._informers.of(kinds.NODE).get(self._settings.node_name)

    def _node(self) -> Object:
        node = self._own() or {"metadata": {"name": self._settings.node_name}}
        return {"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]}

    async def _forget(self) -> None:
        stale = self._table.take_stale()
        if not stale or len(stale) > MOST_STALE:
            return
        try:
            FORGOTTEN.inc(await self._kernel.forget(stale))
        except KernelError as error:
            log.warning("UDP flows to old backends stay", extra={"reason": str(error)})

    async def _release(self, left: Collection[Left]) -> None:
        if not left:
            return
        try:
            await self._kernel.release(left)
        except KernelError as error:
            log.warning("clients keep to backends that left", extra={"reason": str(error)})

    def _count(self) -> None:
        SERVICES.set(len(self._table))
        ruleset = self._table.ruleset
        classes = (n for n in ruleset if is_class(n) and not is_memory(n))
        ENDPOINTS.set(sum(len(ruleset[name]) for name in classes))


def _first(items: Iterable[str], count: int) -> list[str]:
    return [key for _, key in zip(range(count), items, strict=False)]


def _cidr(node: Object | None) -> object:
    return ((node or {}).get("spec") or {}).get("podCIDR")
