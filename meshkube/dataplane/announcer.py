"""The part that announces LoadBalancer addresses out of a pool on this host's link.

One node has each address (`announcements`). A node that dies is missed within seconds, by its
Lease, and the next one tells the link that the address has moved. While the API is away every node
keeps what it has, unless somebody else on the link says to have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from prometheus_client import Gauge

from meshkube.api import kinds, meta
from meshkube.api.balancing import ANNOUNCER_LEASES, announcer_lease, pool_addresses
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock, SystemClock
from meshkube.dataplane import announcements, link_addresses
from meshkube.dataplane.host import HostError
from meshkube.dataplane.link_addresses import Place
from meshkube.dataplane.rules import SERVICE_LABEL
from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)
T = TypeVar("T")

RENEW = 0.75
TICK = 0.25
REPEAT = 15.0
"""Seconds between two announcements: whoever missed one hears the next."""
PROBE = 2.0
BURST = (0.0, 0.3, 1.0, 3.0)
"""Seconds after which a new address is announced again: a link may lose a frame."""
LOOK = 10.0
HAND_OVER = 2.0
"""Seconds that a node keeps what another should have by now: better two than none."""

ANNOUNCED = Gauge(
    "meshkube_announced_addresses", "LoadBalancer addresses on this host.", registry=REGISTRY
)


class Links(Protocol):
    """What the part asks of the host; blocking, called in a thread of its own."""

    def held(self) -> dict[str, Place]: ...

    def add(self, address: str, node_ip: str) -> Place: ...

    def remove(self, place: Place) -> None: ...

    def announce(self, place: Place) -> None: ...

    def contested(self, places: Iterable[Place]) -> set[str]: ...


class Announcer:
    """`client` reads; `lease_client` writes this node's Lease, as the node. Only while it `serves`
    (its rules are in the kernel) a node takes addresses."""

    name = "load-balancer"

    def __init__(
        self,
        *,
        client: Client,
        lease_client: Client,
        node_name: str,
        node_ip: str,
        serves: Callable[[], bool],
        links: Links = link_addresses,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._lease_client = lease_client
        self._node = node_name
        self._node_ip = node_ip
        self._serves = serves
        self._links = links
        self._clock = clock or SystemClock()
        self._wake = asyncio.Event()
        self._thread: ThreadPoolExecutor | None = None
        self._places: dict[str, Place] = {}
        self._due: dict[str, list[float]] = {}
        """When each address is announced next, and after that."""
        self._lost: dict[str, float] = {}
        """Since when another node should have an address that is still here."""
        self._looked = self._probed = float("-inf")
        self._renewing = True
        self._refused: dict[str, str] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. What is announced stays on the link: it serves on."""
        informers = Informers(self._client)
        services = informers.of(kinds.SERVICE, fields="spec.type=LoadBalancer")
        nodes, leases = (
            informers.of(kinds.NODE),
            informers.of(kinds.LEASE, namespace=ANNOUNCER_LEASES),
        )
        services.subscribe(lambda old, new: self._wake.set())
        events = EventRecorder(self._client, "meshkube-announcer", self._node, self._clock)
        pulse = announcements.Pulse(self._node)
        self._looked = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="links")
        try:
            self._places = await self._do(self._links.held)
            async with asyncio.TaskGroup() as group:
                group.create_task(informers.run())
                group.create_task(events.run())
                for each in (services, nodes, leases):
                    await each.wait_synced()
                group.create_task(self._renew(lambda: self._pooled(informers), informers))
                ready()
                while True:
                    await self._once(informers, pulse, events)
                    await self._pause(bool(self._pooled(informers) or self._places))
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    async def _pause(self, busy: bool) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(TICK if busy else None):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _pooled(self, informers: Informers) -> list[Object]:
        found = informers.of(kinds.SERVICE, fields="spec.type=LoadBalancer").list()
        return [service for service in found if pool_addresses(service)]

    async def _once(
        self, informers: Informers, pulse: announcements.Pulse, events: EventRecorder
    ) -> None:
        now = self._clock.monotonic()
        services = self._pooled(informers)
        pulse.saw(self._renewals(informers), now)
        if now - self._looked >= LOOK:
            self._looked, self._places = now, await self._do(self._links.held)
        if not services:
            await self._keep((), services, events)
        elif (alive := self._voters(informers, pulse, now)) is not None:
            nodes = informers.of(kinds.NODE).list()
            owners = announcements.owners(
                services, nodes, alive, lambda s: self._local(informers, s)
            )
            await self._keep(self._mine(owners, now), services, events)
        else:
            known = {address for service in services for address in pool_addresses(service)}
            await self._keep(self._places.keys() & known, services, events)
            await self._yield(now)
        await self._announce(now)
        ANNOUNCED.set(len(self._places))

    def _alone(self, informers: Informers) -> bool:
        """Nobody to agree with: no Lease has to be written all the time."""
        return {meta.name(node) for node in informers.of(kinds.NODE).list()} == {self._node}

    def _voters(
        self, informers: Informers, pulse: announcements.Pulse, now: float
    ) -> set[str] | None:
        """The nodes that may have addresses; None while that cannot be judged."""
        if self._alone(informers):
            return {self._node} if self._serves() else None
        return pulse.alive(now) if pulse.may_judge(now) else None

    def _mine(self, owners: dict[str, str], now: float) -> set[str]:
        """What this node has to have: its own, and for a moment what goes to another."""
        mine = {address for address, node in owners.items() if node == self._node}
        leaving = {a for a, node in owners.items() if node and a in self._places and a not in mine}
        self._lost = {address: self._lost.get(address, now) for address in leaving}
        return mine | {a for a, since in self._lost.items() if now - since < HAND_OVER}

    def _renewals(self, informers: Informers) -> dict[str, str]:
        found = {}
        for lease in informers.of(kinds.LEASE, namespace=ANNOUNCER_LEASES).list():
            spec = lease.get("spec") or {}
            node = str(spec.get("holderIdentity") or "")
            if meta.name(lease) == announcer_lease(node):
                found[node] = str(spec.get("renewTime"))
        return found

    def _local(self, informers: Informers, service: Object) -> Collection[str]:
        pieces = informers.of(
            kinds.ENDPOINT_SLICE,
            namespace=meta.namespace(service),
            labels=f"{SERVICE_LABEL}={meta.name(service)}",
        )
        return announcements.nodes_of(pieces.list())

    async def _keep(
        self, wanted: Collection[str], services: Iterable[Object], events: EventRecorder
    ) -> None:
        """These addresses, and no others."""
        now = self._clock.monotonic()
        for address in sorted(self._places.keys() - set(wanted)):
            await self._do(self._links.remove, self._places.pop(address))
            self._due.pop(address, None)
            log.info("address given up", extra={"address": address})
        for address in sorted(set(wanted) - self._places.keys()):
            try:
                place = await self._do(self._links.add, address, self._node_ip)
            except (HostError, OSError) as error:
                self._tell(address, str(error))
                continue
            self._tell(address, "")
            self._places[address] = place
            self._due[address] = [now + after for after in BURST]
            log.info("address taken", extra={"address": address, "link": place.link})
            for service in services:
                if address in pool_addresses(service):
                    message = f"address {address} is announced by node {self._node}"
                    events.event(service, "Normal", "AddressAnnounced", message)

    async def _yield(self, now: float) -> None:
        """Nobody knows who else is there: what another host on the link has taken, it has."""
        if not self._places or now - self._probed < PROBE:
            return
        self._probed = now
        try:
            lost = await self._do(self._links.contested, list(self._places.values()))
        except OSError as error:
            log.warning("the link could not be asked", extra={"reason": str(error)})
            return
        for address in lost:
            log.warning("address given up: another host has it", extra={"address": address})
            await self._do(self._links.remove, self._places.pop(address))

    async def _announce(self, now: float) -> None:
        for address, place in list(self._places.items()):
            due = self._due.setdefault(address, [now])
            if due[0] > now:
                continue
            due[:] = [at for at in due if at > now] or [now + REPEAT]
            try:
                await self._do(self._links.announce, place)
            except OSError as error:
                log.warning(
                    "address not announced", extra={"address": address, "reason": str(error)}
                )

    def _tell(self, address: str, trouble: str) -> None:
        if trouble and self._refused.get(address) != trouble:
            log.error("address not taken", extra={"address": address, "reason": trouble})
        self._refused[address] = trouble

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        assert self._thread is not None
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    # The Lease

    async def _renew(self, needed: Callable[[], object], informers: Informers) -> None:
        while True:
            if needed() and self._serves() and not self._alone(informers):
                try:
                    async with asyncio.timeout(announcements.DURATION):
                        await self._write(informers.of(kinds.NODE).get(self._node))
                    self._renewing = True
                except (ApiError, TimeoutError) as error:
                    if self._renewing:
                        log.warning("the announcer's Lease waits", extra={"reason": str(error)})
                    self._renewing = False
            await self._clock.sleep(RENEW)

    async def _write(self, node: Object | None) -> None:
        if node is None:
            return
        name = announcer_lease(self._node)
        spec = {
            "holderIdentity": self._node,
            "leaseDurationSeconds": int(announcements.DURATION),
            "renewTime": meta.micro_timestamp(self._clock.now()),
        }
        try:
            await self._lease_client.patch(
                kinds.LEASE, name, {"spec": spec}, ANNOUNCER_LEASES, type="merge"
            )
        except ApiError as error:
            if error.code != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": meta.uid(node)}
            metadata = {"name": name, "namespace": ANNOUNCER_LEASES, "ownerReferences": [owner]}
            lease = {"apiVersion": kinds.LEASE.api_version, "kind": "Lease"}
            await self._lease_client.create(
                kinds.LEASE, {**lease, "metadata": metadata, "spec": spec}
            )
