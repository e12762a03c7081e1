"""The ingress as a part: follows the API, serves HTTP and HTTPS, reports back.

What it serves outlives the API: the table and the certificates stay as they last were, also when
this part itself is started again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from meshkube import metrics
from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informer, Informers
from meshkube.ingress import ticket_keys
from meshkube.ingress.certificates import ENDS, Certificates, expiry_problem
from meshkube.ingress.collector import ProxyCollector
from meshkube.ingress.counts import add
from meshkube.ingress.external_names import ExternalNames, Nameserver
from meshkube.ingress.findings import Finding, findings, guard_findings
from meshkube.ingress.guards import Guards
from meshkube.ingress.listener import listen, port_of, sockets_for
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.route_backends import SERVICE_LABEL
from meshkube.ingress.routes import RouteTable
from meshkube.ingress.settings import Settings
from meshkube.ingress.status import Status
from meshkube.ingress.workers import Plan, Workers, message_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

log = logging.getLogger(__name__)

# Certificates and authorities; of the others, those that are many and large are left out.
SECRETS = ",".join(
    f"type!={kind}"
    for kind in (
        "helm.sh/release.v1",
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockerconfigjson",
        "bootstrap.kubernetes.io/token",
    )
)
# Changes come in bursts: one reconcile serves them all.
COALESCE = 0.02
# A manifest may hold an Ingress before its Service: a fault must last to be worth an Event.
FAULT_LASTS = 3.0
RETRY = 5.0
LOOK_AGAIN = 3600.0
TICKETS = ticket_keys.SECRET


class Ingress:
    """Serves every Ingress of class `meshkube` on this host's ports."""

    def __init__(
        self,
        *,
        client: Client,
        http_port: int = 80,
        https_port: int = 443,
        addresses: Sequence[str] | Callable[[], Sequence[str]] = (),
        host: str | None = None,
        settings: Settings | None = None,
        informers: Informers | None = None,
        recorder: EventRecorder | None = None,
        workers: int = 0,
        reports: bool = True,
        nameservers: Sequence[Nameserver] = (),
        nodes: bool = False,
    ) -> None:
        """`addresses` are written into every Ingress' status; `host` is the address to listen on,
        None for all. Port 0 takes any free one. Informers and a recorder that are given are run
        by their owner, others by this part. With `workers` so many processes serve the ports in its
        place. `reports`: whether the API is told of faults. `nameservers` know external names.
        `nodes`: whether Nodes say which of them run an ingress, whose addresses these then are."""
        self.name = "ingress"
        self._client = client
        self._host = host
        self._wanted_ports = (http_port, https_port)
        self._own_informers = informers is None
        self._own_recorder = recorder is None
        self._informers = informers or Informers(client)
        self._recorder = recorder or EventRecorder(client, "meshkube-ingress")
        self._group: asyncio.TaskGroup | None = None
        self.ports: tuple[int, int] = (0, 0)
        """HTTP and HTTPS, while this runs."""
        self.table = RouteTable()
        self.proxy = Proxy(self.table, settings or Settings(), self._spawn)
        self._certificates = Certificates()
        self.proxy.pool.tls.secret = lambda key: self._secrets.get(key)  # noqa: PLW0108 -- followed later
        self._secret_problems: dict[str, str] = {}
        self._expiring: dict[str, str] = {}
        self._dirty: set[str] = set()
        self._tls_dirty = True
        self._wake = asyncio.Event()
        self._told: dict[str, frozenset[Finding]] = {}
        self._suspects: dict[str, float] = {}
        self._count = workers
        self._reports = reports
        own = addresses if callable(addresses) else lambda: addresses
        self._status = Status(client, own, lambda: self._touch(*self.table.ingresses))
        self._nameservers = nameservers
        self._of_nodes = nodes
        self._workers: Workers | None = None
        self._follow()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets requests in flight finish. Raises `CannotListen`."""
        async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
            self._group = group
            if self._own_informers:
                group.create_task(self._informers.run())
            if self._own_recorder:
                group.create_task(self._recorder.run())
            for informer in self._all:
                await informer.wait_synced()
            if self._nodes is not None:
                await self._nodes.wait_synced()
            self._take_certificates()
            guards = Guards(self._secrets.get, self.table.service)
            stack.push_async_callback(guards.close)
            self.proxy.guards_of = guards.of
            group.create_task(ExternalNames(self.table, self._nameservers).run())
            stack.enter_context(_registered(ProxyCollector(self.proxy)))
            if self._count:
                group.create_task(self._reconcile())
                await self._work(ready)
            await stack.enter_async_context(self._listening())
            group.create_task(self.proxy.sweep())
            group.create_task(self._reconcile())
            ready()
            await asyncio.Event().wait()

    async def _work(self, ready: Callable[[], None]) -> None:
        """Has workers serve the ports, until cancelled. Raises `CannotListen`."""
        sockets: list[list[socket.socket]] = []
        ports = self._wanted_ports
        with ExitStack() as stack:
            for slot in range(self._count):
                http = sockets_for(self._host, ports[0], "http", slot, self._count)
                https = sockets_for(self._host, ports[1], "https", slot, self._count)
                ports = (http[0].getsockname()[1], https[0].getsockname()[1])
                sockets.append([*http, *https])
                for each in sockets[-1]:
                    stack.callback(each.close)
            self.ports = ports
            plan = Plan(self._host, ports, self.proxy.settings, sockets, self._nameservers)
            self._workers = Workers(plan, self._everything, self._counted)
            facts = {"http": ports[0], "https": ports[1], "workers": self._count}
            log.info("ingress starts its workers", extra=facts)
            try:
                await self._workers.run(ready)
            finally:
                self._workers = None
                self.proxy.elsewhere = 0

    def _counted(self, counted: dict[str, Any]) -> None:
        add(self.proxy, counted)
        assert self._workers is not None
        self.proxy.elsewhere = self._workers.clients

    def _everything(self) -> Iterator[bytes]:
        """What a new worker is to know. Of EndpointSlices only those that rules lead to."""
        for informer in (self._classes, self._services, self._secrets, self._ingresses):
            for each in informer.list():
                yield message_of(informer.kind, meta.key(each), each)
        for piece in self._slices.list():
            if self.table.ingresses_of_service(_service(piece)):
                yield message_of(kinds.ENDPOINT_SLICE, meta.key(piece), piece)

    def _hand_on(self, kind: Kind) -> Callable[[Object | None, Object | None], None]:
        def changed(old: Object | None, new: Object | None) -> None:
            workers = self._workers
            if workers is None:
                return
            if kind is kinds.ENDPOINT_SLICE and not self.table.ingresses_of_service(
                _service(new if new is not None else old or {})
            ):
                return
            workers.tell(message_of(kind, _key(old, new), new))
            if kind is kinds.INGRESS and new is not None:
                self._tell_of_pods(workers, _key(old, new))

        return changed

    def _tell_of_pods(self, workers: Workers, ingress: str) -> None:
        """An Ingress may lead to Services whose pods were nobody's business before."""
        wanted = self.table.services_of(ingress)
        for piece in self._slices.list():
            if _service(piece) in wanted:
                workers.tell(message_of(kinds.ENDPOINT_SLICE, meta.key(piece), piece))

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        http_port, https_port = self._wanted_ports
        self.proxy.draining = False
        async with AsyncExitStack() as stack:
            servers = []
            for port, certificates in ((http_port, None), (https_port, self._certificates)):
                server = await listen(self.proxy, self._host, port, certificates)
                stack.callback(server.close)
                servers.append(server)
            self.ports = (port_of(servers[0]), port_of(servers[1]))
            self.proxy.https_port = self.ports[1]
            log.info("ingress listens", extra={"http": self.ports[0], "https": self.ports[1]})
            try:
                yield
            finally:
                for server in servers:
                    server.close()
                await self.proxy.drain()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> object:
        assert self._group is not None
        return self._group.create_task(work)

    # From the API to the table

    def _follow(self) -> None:
        of = self._informers.of
        self._ingresses = of(kinds.INGRESS)
        self._secrets = of(kinds.SECRET, fields=SECRETS)
        self._classes = classes = of(kinds.INGRESS_CLASS)
        self._services = services = of(kinds.SERVICE)
        self._slices = slices = of(kinds.ENDPOINT_SLICE)
        self._all: tuple[Informer, ...] = (
            self._ingresses,
            self._secrets,
            classes,
            services,
            slices,
        )
        self._nodes = of(kinds.NODE) if self._of_nodes else None
        if self._nodes is not None:
            self._status.follow(self._nodes)
        classes.subscribe(self._class_changed)
        services.subscribe(self._service_changed)
        slices.subscribe(self._slice_changed)
        self._secrets.subscribe(self._secret_changed)
        self._ingresses.subscribe(self._ingress_changed)
        if self._count:
            # After the table has taken the change: it says what concerns workers.
            for informer in self._all:
                informer.subscribe(self._hand_on(informer.kind))

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        self.table.set_class(_name(old, new), new)
        self._tls_dirty = True
        self._touch(*self.table.ingresses)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        key = _key(old, new)
        self.table.set_service(key, new)
        self._touch(*self.table.ingresses_of_service(key))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        # Pods come and go all the time, and no Event or status hangs on that.
        self.table.set_slice(_key(old, new), old, new)

    def _secret_changed(self, old: Object | None, new: Object | None) -> None:
        key = _key(old, new)
        users = self.table.users_of_secret(key)
        if key == TICKETS:
            self._tls_dirty = True
            self._wake.set()
        if users:
            self._tls_dirty = True
            self._touch(*map(meta.key, users))

    def _ingress_changed(self, old: Object | None, new: Object | None) -> None:
        key = _key(old, new)
        if _same_rules(old, new):
            self._touch(key)
            return
        # Whoever lost a conflict to the old form has won now, and the other way round.
        self._touch(key, *self.table.rivals(key))
        self.table.set_ingress(key, new)
        self._touch(*self.table.rivals(key))
        self._tls_dirty = True

    def _touch(self, *keys: str) -> None:
        self._dirty.update(keys)
        self._wake.set()

    def _take_certificates(self) -> None:
        if not self._tls_dirty:
            return
        self._tls_dirty = False
        hosts = self.table.tls()
        self._certificates.share_tickets(*ticket_keys.masters_of(self._secrets.get(TICKETS)))
        problems = self._certificates.update(hosts, self._secrets.get)
        expiring: dict[str, str] = {}
        for key in {key for host in hosts.values() for key in host.secrets} - set(problems):
            secret = self._secrets.get(key)
            problem = expiry_problem(secret) if secret is not None else ""
            if problem:
                (expiring if problem.startswith(ENDS) else problems)[key] = problem
        self._secret_problems, self._expiring = problems, expiring

    # From the table back to the API

    async def _reconcile(self) -> None:
        """Certificates, status and Events, after every burst of changes; what failed or is too
        young to tell is looked at again."""
        while True:
            pause = RETRY if self._dirty else FAULT_LASTS if self._suspects else LOOK_AGAIN
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                if pause == LOOK_AGAIN:
                    # Certificates come to their end without anybody changing them.
                    self._tls_dirty = True
                    self._touch(*self.table.ingresses)
            await asyncio.sleep(COALESCE)
            self._wake.clear()
            self._take_certificates()
            keys, self._dirty = self._dirty | self._suspects.keys(), set()
            for key in keys:
                await self._report(key)

    async def _report(self, key: str) -> None:
        ingress = self._ingresses.get(key)
        if ingress is None or self.table.ingress(key) is None:
            self._told.pop(key, None)
            self._suspects.pop(key, None)
            self._status.forget(key)
            return
        if self._reports:
            self._tell(key, ingress)
        if not await self._status.write(key, ingress):
            self._dirty.add(key)

    def _tell(self, key: str, ingress: Object) -> None:
        """Records Events for faults that are new and have lasted."""
        found = findings(self.table, key, ingress, self._secret_problems, self._expiring)
        found |= guard_findings(ingress, self._secrets.get)
        told = self._told.get(key, frozenset()) & found
        if found == told:
            self._suspects.pop(key, None)
            self._told[key] = told
            return
        since = self._suspects.setdefault(key, monotonic())
        if monotonic() - since < FAULT_LASTS - 0.1:
            self._told[key] = told
            return
        subject = {
            "apiVersion": kinds.INGRESS.api_version,
            "kind": kinds.INGRESS.kind,
            "metadata": ingress["metadata"],
        }
        for finding in sorted(found - told):
            self._recorder.event(subject, "Warning", finding.reason, finding.message)
            log.warning(finding.message, extra={"ingress": key, "reason": finding.reason})
        self._told[key] = found
        self._suspects.pop(key, None)


@contextmanager
def _registered(collector: ProxyCollector) -> Iterator[None]:
    metrics.REGISTRY.register(collector)
    try:
        yield
    finally:
        metrics.REGISTRY.unregister(collector)


def _same_rules(old: Object | None, new: Object | None) -> bool:
    """Whether only status and the like changed. An annotation may move an Ingress to a class."""
    if old is None or new is None:
        return False
    return old.get("spec") == new.get("spec") and meta.annotations(old) == meta.annotations(new)


def _service(piece: Object) -> str:
    """The key of a slice's Service."""
    return f"{meta.namespace(piece)}/{meta.labels(piece).get(SERVICE_LABEL, '')}"


def _key(old: Object | None, new: Object | None) -> str:
    return meta.key(new if new is not None else old or {})


def _name(old: Object | None, new: Object | None) -> str:
    return meta.name(new if new is not None else old or {})
