"""The DNS server of a node: sockets around the zone, the answer cache and the upstreams."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from time import perf_counter

from meshkube.api.kinds import ENDPOINT_SLICE, NAMESPACE, SERVICE
from meshkube.client import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informer
from meshkube.clock import Clock
from meshkube.dns import records, tcp
from meshkube.dns.address import OwnPlace, Place
from meshkube.dns.answering import Answerer
from meshkube.dns.autopath import Autopath
from meshkube.dns.batch import Batch
from meshkube.dns.cache import AnswerCache
from meshkube.dns.limit import SLIP, RateLimit
from meshkube.dns.livesettings import LiveSettings
from meshkube.dns.metrics import Counters
from meshkube.dns.podfeed import PodFeed
from meshkube.dns.podnames import PodNames
from meshkube.dns.responder import Authority
from meshkube.dns.settings import Server, Settings
from meshkube.dns.upstream import Upstreams
from meshkube.dns.zone import Zone
from meshkube.dns.zonefeed import NamespaceFeed, ZoneFeed

log = logging.getLogger(__name__)

PORT = 53
RECEIVE_BUFFER = 4 << 20
# How long the first answer waits for what the API may not let us read.
OPTIONAL_PATIENCE = 2.0
_HOSTS = "hosts"


class DnsServer:
    """Part "dns": answers for the cluster's zones from memory, and forwards the rest.

    Keeps answering from what it last knew while the API is away.
    """

    name = "dns"

    def __init__(
        self,
        *,
        client: Client,
        address: str,
        domain: str,
        networks: Sequence[str],
        upstreams: Sequence[Server],
        clock: Clock,
        port: int = PORT,
        search: Sequence[str] = (),
        place: Place | None = None,
    ) -> None:
        """`networks` are those of Services and pods; `upstreams` and `search` the host's own name
        servers and search list; `place` has that address and port, else this host does."""
        self._place = place or OwnPlace(address, port)
        self._address = address
        self._port = port
        self._domain = domain
        self._networks = networks
        self._host_upstreams = tuple(upstreams)
        self._pods = PodNames(domain)
        self._zone = Zone(serial=int(clock.now().timestamp()), pods=self._pods)
        self._zone.replace("", records.apex_records(domain, address))
        self._cache = AnswerCache()
        self._limit = RateLimit(networks)
        self._upstreams = Upstreams(upstreams, clock)
        self._autopath = Autopath(domain, search)
        self.counters = Counters(
            lambda: len(self._cache.entries), lambda: len(self._zone), lambda: self._limit.limited
        )
        self.counters.health = self._upstreams.health
        self.counters.servers = self._upstreams.servers
        self._answerer = Answerer(
            zone=self._zone,
            authority=Authority.of(domain, networks),
            cache=self._cache,
            upstreams=self._upstreams,
            autopath=self._autopath,
            counters=self.counters,
        )
        self._services = Informer(client, SERVICE)
        self._slices = Informer(client, ENDPOINT_SLICE)
        self._namespaces = Informer(client, NAMESPACE)
        ZoneFeed(self._zone, domain, self._services, self._slices, self._cache.forget)
        NamespaceFeed(self._namespaces, self._pods, self._autopath, self._cache.clear)
        self._pod_feed = PodFeed(client, self._pods, self._cache.forget, domain)
        self._events = EventRecorder(client, "meshkube-dns", clock=clock)
        self._settings = LiveSettings(client, self._events, self.configure)
        self.configure(Settings())

    def configure(self, settings: Settings) -> None:
        """Puts settings to use; what was answered under others is forgotten."""
        own = self._address
        asked = self._host_upstreams if settings.upstreams is None else settings.upstreams
        self._upstreams.configure(
            [server for server in asked if server != (own, self._port)],
            settings.stub_domains,
            settings.serve_stale,
        )
        self._upstreams.prefetch = settings.prefetch
        self._limit.configure(settings.rate_limit, settings.outside_rate_limit)
        self._answerer.authority = Authority.of(self._domain, self._networks, settings.ttl)
        self._answerer.autopath_on = settings.autopath
        self._answerer.log = settings.log
        self._zone.replace(_HOSTS, records.host_records(settings.hosts))
        self._pods.mode = settings.pods
        self._pod_feed.wanted(settings.pods == "verified")
        self._cache.clear()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves on UDP and TCP until cancelled. Raises `OSError` where the port is taken."""
        loop = asyncio.get_running_loop()
        udp, listening = await asyncio.to_thread(self._bound)
        with udp:
            streams = tcp.Streams(self._answerer)
            stream_server = await asyncio.start_server(streams.connected, sock=listening)
            try:
                async with asyncio.TaskGroup() as group, stream_server:
                    await self._begin(group)
                    loop.add_reader(udp.fileno(), self._drain, Batch(udp), udp, group)
                    ready()
                    while True:
                        await asyncio.sleep(1)
                        self._cache.end_brief()
                        self._limit.tick()
                        if self._place.lost:
                            raise OSError(f"nobody reaches {self._address} here any more")
            finally:
                loop.remove_reader(udp.fileno())

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        """Follows the API; returns once every name can be answered."""
        needed = (self._services, self._slices)
        optional = (self._namespaces, self._settings.informer)
        for informer in (*needed, *optional):
            group.create_task(informer.run(), name=f"dns-{informer.kind.plural}")
        group.create_task(self._upstreams.run(), name="dns-upstreams")
        group.create_task(self._events.run(), name="dns-events")
        group.create_task(self._pod_feed.run(), name="dns-pods")
        for informer in needed:
            await informer.wait_synced()
        try:
            async with asyncio.timeout(OPTIONAL_PATIENCE):
                for informer in optional:
                    await informer.wait_synced()
        except TimeoutError:
            log.warning("goes on without namespaces or settings: may they be read?")

    def _bound(self) -> tuple[socket.socket, socket.socket]:
        try:
            udp, listening = self._place.opened()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"port {self._port} of {self._address} is taken by another program"
                raise OSError(error.errno, reason) from None
            raise
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        return udp, listening

    def _drain(self, batch: Batch, udp: socket.socket, group: asyncio.TaskGroup) -> None:
        """What waits, each packet answered from the cache where it can be."""

        def otherwise(packet: bytes, slot: int, above: int) -> None:
            asker = batch.asker(slot)

            def reply(message: bytes) -> None:
                _send(udp, message, asker)

            if not above:
                self._answerer.take(packet, reply, group, tcp=False)
            elif above % SLIP == 1:
                self._answerer.cut(packet, reply)

        started = perf_counter()
        try:
            hits = batch.answer(
                self._cache.entries, self._limit.unlimited, self._limit.excess, otherwise
            )
        except OSError as error:
            # An ICMP error for an earlier answer: that asker is gone, the others are not.
            log.debug("socket error", extra={"reason": str(error)})
            return
        if hits:
            self.counters.local.add(perf_counter() - started, hits)


def _send(udp: socket.socket, message: bytes, asker: tuple[str, int]) -> None:
    try:
        udp.sendto(message, asker)
    except OSError as error:
        # Nobody waits for it, or no room for it: DNS over UDP is asked again.
        log.debug("answer not sent", extra={"asker": asker[0], "reason": str(error)})
