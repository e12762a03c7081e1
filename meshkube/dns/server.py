"""The DNS server of a node: sockets around the zone, the answer cache and the upstreams."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Sequence

import dns.message

from meshkube import handover
from meshkube.api.kinds import ENDPOINT_SLICE, SERVICE
from meshkube.client import Client
from meshkube.client.informer import Informer
from meshkube.clock import Clock
from meshkube.dns import address, records, wire
from meshkube.dns.cache import AnswerCache
from meshkube.dns.metrics import Counters
from meshkube.dns.records import Record
from meshkube.dns.responder import TTL, Answer, Authority, Forward, respond
from meshkube.dns.upstream import Server, Upstreams
from meshkube.dns.wire import Malformed, Query
from meshkube.dns.zone import Zone
from meshkube.dns.zonefeed import ZoneFeed

log = logging.getLogger(__name__)

PORT = 53
# Packets taken in one go before other work gets its turn.
BATCH = 64
RECEIVE_BUFFER = 4 << 20
MOST_FORWARDS = 1000
MOST_CONNECTIONS = 500
IDLE_SECONDS = 10.0

Reply = Callable[[bytes], None]


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
    ) -> None:
        self._address = address
        self._port = port
        self._domain = domain
        self._authority = Authority.of(domain, networks)
        self._zone = Zone(serial=int(clock.now().timestamp()))
        self._zone.replace("", records.apex_records(domain, address))
        self._cache = AnswerCache()
        self._upstreams = Upstreams(upstreams, clock)
        self._services = Informer(client, SERVICE)
        self._slices = Informer(client, ENDPOINT_SLICE)
        feed = ZoneFeed(self._zone, domain, self._services, self._slices, self._cache.forget)
        self._feed = feed
        self.counters = Counters(lambda: len(self._cache.entries), lambda: len(self._zone))
        self._connections = 0
        self._forwards = 0
        self._turn = 0

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves on UDP and TCP until cancelled. Raises `OSError` where the port is taken."""
        await asyncio.to_thread(address.ensure, self._address)
        loop = asyncio.get_running_loop()
        with self._bound() as udp:
            (listening,) = handover.tcp(self._address, self._port)
            tcp = await asyncio.start_server(self._connected, sock=listening)
            try:
                async with asyncio.TaskGroup() as group, tcp:
                    group.create_task(self._services.run(), name="dns-services")
                    group.create_task(self._slices.run(), name="dns-slices")
                    await self._services.wait_synced()
                    await self._slices.wait_synced()
                    loop.add_reader(udp.fileno(), self._drain, udp, group)
                    ready()
                    await asyncio.Event().wait()
            finally:
                loop.remove_reader(udp.fileno())

    def _bound(self) -> socket.socket:
        try:
            udp = handover.udp(self._address, self._port)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = f"port {self._port} of {self._address} is taken by another program"
                raise OSError(error.errno, reason) from None
            raise
        return udp

    def _drain(self, udp: socket.socket, group: asyncio.TaskGroup) -> None:
        """The hot path: all waiting packets, each answered from the cache where it can be."""
        entries = self._cache.entries
        counters = self.counters
        receive, send = udp.recvfrom, udp.sendto
        try:
            for _ in range(BATCH):
                packet, asker = receive(wire.LARGEST_UDP * 2)
                answers = entries.get(packet[2:])
                if answers is not None:
                    counters.hits += 1
                    if len(answers) == 1:
                        send(packet[:2] + answers[0], asker)
                    else:
                        self._turn = turn = self._turn + 1
                        send(packet[:2] + answers[turn % len(answers)], asker)
                    continue

                def reply(message: bytes, asker: tuple[str, int] = asker) -> None:
                    _send(udp, message, asker)

                self._miss(packet, reply, group, tcp=False)
        except BlockingIOError:
            return
        except OSError as error:
            # An ICMP error for an earlier answer: that asker is gone, the others are not.
            log.debug("socket error", extra={"reason": str(error)})

    def _miss(self, packet: bytes, reply: Reply, group: asyncio.TaskGroup, tcp: bool) -> None:
        """Answers what the cache does not hold; forwards run as tasks."""
        try:
            query = wire.read(packet)
        except Malformed as error:
            self.counters.malformed += 1
            if error.reply:
                reply(wire.refusal(packet, wire.FORMERR))
            return
        largest = wire.LARGEST_TCP if tcp else query.udp_size
        found = respond(self._zone, self._authority, query, largest)
        if isinstance(found, Answer):
            self.counters.answered(query.type, found.rcode)
            if not tcp and query.plain and found.depends_on:
                tails = (message[2:] for message in found.messages)
                self._cache.add(packet[2:], tails, found.depends_on)
            reply(found.messages[0])
            return
        kept = None if found.chain else self._upstreams.cached(query)
        if kept is not None:
            self.counters.forwarded_hits += 1
            reply(_fitting(kept, query, largest))
        elif self._forwards >= MOST_FORWARDS:
            self.counters.dropped += 1
            reply(_failure(query, largest))
        else:
            self._forwards += 1
            group.create_task(self._forward(found, reply, largest))

    async def _forward(self, forward: Forward, reply: Reply, largest: int) -> None:
        query = forward.query
        try:
            asked = query._replace(name=forward.target, question=_question_for(forward))
            message = await self._upstreams.ask(asked)
            self.counters.forwards += 1
            if message is None:
                reply(_failure(query, largest))
            elif forward.chain:
                reply(_joined(forward, message, largest))
            else:
                reply(_fitting(message, query, largest))
        finally:
            self._forwards -= 1

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP connection: queries with a length in front, until it falls idle (RFC 7766)."""
        self._connections += 1
        try:
            if self._connections <= MOST_CONNECTIONS:
                async with asyncio.TaskGroup() as group:
                    await self._converse(reader, writer, group)
        except (OSError, EOFError, TimeoutError, ExceptionGroup):
            log.debug("connection ended early")
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
    ) -> None:
        def reply(message: bytes) -> None:
            writer.write(struct.pack("!H", len(message)) + message)

        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    packet = await reader.readexactly(length)
                    await writer.drain()
            except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                return
            self._miss(packet, reply, group, tcp=True)


def _send(udp: socket.socket, message: bytes, asker: tuple[str, int]) -> None:
    try:
        udp.sendto(message, asker)
    except OSError as error:
        # Nobody waits for it, or no room for it: DNS over UDP is asked again.
        log.debug("answer not sent", extra={"asker": asker[0], "reason": str(error)})


def _failure(query: Query, largest: int) -> bytes:
    return wire.write(query, wire.SERVFAIL, ttl=0, largest=largest, authoritative=False)


def _fitting(message: bytes, query: Query, largest: int) -> bytes:
    """The upstream's message, or, where it is too large, a cut one: the asker comes back by TCP."""
    if len(message) <= largest:
        return message
    rcode = message[3] & 0xF
    cut = bytearray(wire.write(query, rcode, ttl=0, largest=largest, authoritative=False))
    cut[2] |= wire.TC >> 8
    return bytes(cut)


def _question_for(forward: Forward) -> bytes:
    if not forward.chain:
        return forward.query.question
    return forward.target + struct.pack("!HH", forward.query.type, forward.query.klass)


def _joined(forward: Forward, message: bytes, largest: int) -> bytes:
    """Our chain of CNAMEs and, behind it, what the upstream says of the last name."""
    parsed = dns.message.from_wire(message)
    answers = list(forward.chain)
    ttl = TTL
    for rrset in parsed.answer:
        ttl = min(ttl, rrset.ttl)
        owner = rrset.name.to_wire() or b"\0"
        answers += [Record(owner.lower(), rrset.rdtype, data.to_wire() or b"") for data in rrset]
    return wire.write(
        forward.query, parsed.rcode(), answers, ttl=ttl, largest=largest, authoritative=False
    )
