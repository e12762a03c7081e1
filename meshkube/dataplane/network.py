"""The part that keeps every pod of the cluster within reach of this host's pods.

A node alone needs nothing of it, and loads nothing for it. What it made stays when it stops.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from prometheus_client import Counter, Gauge

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informer, Informers
from meshkube.clock import Clock, SystemClock
from meshkube.dataplane import link_events, network_kernel, network_plan
from meshkube.dataplane.host import HostError
from meshkube.dataplane.network_kernel import NetworkError
from meshkube.dataplane.network_plan import Hop, Mode, Peer, Plan
from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)
T = TypeVar("T")

CHECK_EVERY = 30.0
# Changes come in groups (a link that goes takes its routes along): one look for all of them.
GATHER = 0.1
MTU_WAIT = 5.0
CONDITION = "NetworkUnavailable"

ROUTES = Gauge(
    "meshkube_network_nodes", "Other nodes whose pods this host reaches.", registry=REGISTRY
)
REPAIRS = Counter(
    "meshkube_network_changes", "Changes made to the pod network's kernel state.", registry=REGISTRY
)


class NetworkKernel(Protocol):
    """What the part asks of the host; blocking, called in a thread of its own."""

    def is_there(self) -> bool: ...

    def link_mtu(self, address: str) -> int: ...

    def hops(self, addresses: Iterable[str]) -> dict[str, Hop]: ...

    def apply(self, plan: Plan) -> list[str]: ...


class PodNetwork:
    """Routes, or a tunnel, to the pods of each other node.

    `client` reads Nodes; `status_client` writes this node's condition `NetworkUnavailable`.
    """

    name = "network"

    def __init__(
        self,
        *,
        client: Client,
        status_client: Client,
        node_name: str,
        mode: Mode = "auto",
        kernel: NetworkKernel = network_kernel,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._status_client = status_client
        self._node = node_name
        self._mode = mode
        self._kernel = kernel
        self._clock = clock or SystemClock()
        self._wake = asyncio.Event()
        self._planned = asyncio.Event()
        self._mtu = 0
        self._clean = False
        """Nothing of ours is on the host, and nothing has to be."""
        self._said: tuple[str, ...] = ()
        self._thread: ThreadPoolExecutor | None = None

    async def pod_mtu(self) -> int:
        """The MTU for links of pods, in bytes; 0 where it is not known within a few seconds."""
        try:
            async with asyncio.timeout(MTU_WAIT):
                await self._planned.wait()
        except TimeoutError:
            pass
        return self._mtu

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the Nodes until cancelled. Raises `NetworkError` where the kernel refuses."""
        informers = Informers(self._client)
        nodes = informers.of(kinds.NODE)
        nodes.subscribe(self._node_changed)
        events = link_events.watch()
        loop = asyncio.get_running_loop()
        loop.add_reader(events, self._links_changed, events)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        try:
            self._clean = not await self._do(self._kernel.is_there)
            async with asyncio.TaskGroup() as group:
                group.create_task(informers.run())
                await nodes.wait_synced()
                await self._follow(nodes, ready)
        finally:
            loop.remove_reader(events)
            events.close()
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        own = meta.name(new or old or {}) == self._node
        if own or _essence(old) != _essence(new):
            self._wake.set()

    def _links_changed(self, events: socket.socket) -> None:
        if link_events.drain(events):
            self._wake.set()

    async def _follow(self, nodes: Informer, ready: Callable[[], None]) -> None:
        while True:
            self._wake.clear()
            try:
                known = await self._sync(nodes.list())
            except NetworkError as error:
                await self._say(nodes.get(self._node), str(error))
                raise
            if known:
                self._planned.set()
                await self._say(nodes.get(self._node), "")
            ready()
            try:
                # A node alone has nothing that could be broken.
                async with asyncio.timeout(None if known and self._clean else CHECK_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(GATHER)

    async def _sync(self, nodes: Iterable[Object]) -> bool:
        """False while this node has no addresses for pods yet."""
        found, problems = network_plan.peers(nodes)
        me = found.pop(self._node, None)
        if me is None:
            self._tell(problems)
            return False
        plan = await self._do(partial(self._make, me, list(found.values())))
        self._tell([*problems, *plan.problems])
        ROUTES.set(len(found))
        return True

    def _make(self, me: Peer, others: list[Peer]) -> Plan:
        """In the thread: looks at the host, plans, and makes it so."""
        kernel, plan = self._kernel, Plan()
        if others:
            addresses = {a for peer in (me, *others) for a in peer.addresses}
            plan = network_plan.make(me, others, kernel.hops(addresses), self._mode)
        self._mtu = network_plan.pod_mtu(kernel.link_mtu(me.addresses[0]), plan, self._mode)
        if others or not self._clean:
            for step in kernel.apply(plan):
                REPAIRS.inc()
                log.info("pod network", extra={"step": step})
        self._clean = not others
        return plan

    def _tell(self, problems: Iterable[str]) -> None:
        """Each problem once, for as long as it lasts."""
        now = tuple(sorted(problems))
        for problem in now:
            if problem not in self._said:
                log.warning("pod network", extra={"problem": problem})
        self._said = now

    async def _do(self, work: Callable[[], T]) -> T:
        assert self._thread is not None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except HostError as error:
            raise NetworkError(str(error)) from error

    async def _say(self, node: Object | None, trouble: str) -> None:
        """The condition tells the scheduler to send no pods here while they would be cut off."""
        if node is None:
            return
        wanted = condition(trouble, meta.timestamp(self._clock.now()))
        conditions = (node.get("status") or {}).get("conditions") or ()
        held: Object = next((c for c in conditions if c.get("type") == CONDITION), {})
        if all(held.get(key) == wanted[key] for key in ("status", "reason", "message")):
            return
        if held.get("status") == wanted["status"]:
            wanted["lastTransitionTime"] = held.get("lastTransitionTime")
        try:
            await self._status_client.patch(
                kinds.NODE,
                self._node,
                {"status": {"conditions": [wanted]}},
                type="strategic",
                subresource="status",
                field_manager="meshkube-network",
            )
        except ApiError as error:
            log.warning("the node's condition was not written", extra={"reason": str(error)})


def condition(trouble: str, now: str) -> Object:
    """The Node condition `NetworkUnavailable`; `trouble` empty: pods reach each other."""
    return {
        "type": CONDITION,
        "status": "True" if trouble else "False",
        "reason": "PodNetworkFailed" if trouble else "PodNetworkReady",
        "message": trouble or "every pod of the cluster can be reached",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _essence(node: Object | None) -> object:
    """What of another node matters here: not its heartbeats."""
    if node is None:
        return None
    spec = node.get("spec") or {}
    return network_plan.node_addresses(node), spec.get("podCIDR"), spec.get("podCIDRs")
