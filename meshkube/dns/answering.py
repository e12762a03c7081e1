"""From a packet to its answer, for both transports: the zone first, then the rest of a search list,
then the upstreams. What can be answered at once is; the rest are tasks."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

import dns.exception
import dns.message
import dns.rdatatype

from meshkube.dns import names, records, wire
from meshkube.dns.autopath import Autopath
from meshkube.dns.cache import AnswerCache, Finished
from meshkube.dns.metrics import Counters, How
from meshkube.dns.records import Record
from meshkube.dns.responder import Answer, Authority, Forward, respond, respond_as
from meshkube.dns.settings import DEFAULT_TTL, Log
from meshkube.dns.upstream import Upstreams
from meshkube.dns.wire import Malformed, Query
from meshkube.dns.zone import Zone

log = logging.getLogger(__name__)

MOST_FORWARDS = 1000
# A pod's walk through its search list is ended here where that takes no longer: it can go on alone.
AUTOPATH_PATIENCE = 0.6

Reply = Callable[[bytes], None]


class Answerer:
    """Answers queries that no finished answer is kept for."""

    def __init__(
        self,
        *,
        zone: Zone,
        authority: Authority,
        cache: AnswerCache,
        upstreams: Upstreams,
        autopath: Autopath,
        counters: Counters,
    ) -> None:
        self.authority = authority
        self.autopath_on = True
        self.log: Log = "errors"
        self.zone = zone
        self.cache = cache
        self.upstreams = upstreams
        self.autopath = autopath
        self.counters = counters
        self.forwards = 0

    def take(self, packet: bytes, reply: Reply, group: asyncio.TaskGroup, *, tcp: bool) -> None:
        """Answers one packet, at once or in a task of `group`."""
        started = perf_counter()
        try:
            query = wire.read(packet)
        except Malformed as error:
            self.counters.malformed += 1
            if error.reply:
                reply(wire.refusal(packet, wire.FORMERR))
            return
        _Question(self, packet, query, reply, started, tcp).answer(group)

    def cut(self, packet: bytes, reply: Reply) -> None:
        """Tells who asks too often to come by TCP, which a forged address cannot."""
        try:
            query = wire.read(packet)
        except Malformed:
            return
        self.counters.count(query.type, wire.NOERROR, "limited")
        reply(_cut(query, wire.NOERROR, wire.PLAIN_UDP))


class _Question:
    """One query on its way to an answer."""

    __slots__ = ("_at", "_largest", "_packet", "_query", "_reply", "_started", "_tcp")

    def __init__(
        self, at: Answerer, packet: bytes, query: Query, reply: Reply, started: float, tcp: bool
    ) -> None:
        self._at = at
        self._packet = packet
        self._query = query
        self._reply = reply
        self._started = started
        self._tcp = tcp
        self._largest = wire.LARGEST_TCP if tcp else query.udp_size

    def answer(self, group: asyncio.TaskGroup) -> None:
        at, query = self._at, self._query
        found = respond(at.zone, at.authority, query, self._largest)
        if isinstance(found, Answer):
            if found.rcode == wire.NXDOMAIN and self._walked(found, group):
                return
            self._give(found)
        elif query.type == records.HINFO and at.upstreams.looped(query.name):
            log.error("upstream asks us again what we ask it: it is not asked any more")
            self._fail(wire.REFUSED)
        else:
            self._forward(found, group)

    def _give(self, found: Answer) -> None:
        """Answers from the zone, and keeps the answer for who asks the same."""
        at, query = self._at, self._query
        if not self._tcp and query.plain and found.depends_on:
            tally = at.counters.tally(query.type, found.rcode, "cache")
            tails = tuple(message[2:] for message in found.messages)
            self._keep(Finished(tally, tails), found.depends_on)
        self._send(found.messages[0], found.rcode, "zone")

    def _keep(self, finished: Finished, depends_on: frozenset[bytes] | None) -> None:
        if self._at.log == "all":
            return
        if depends_on is None:
            self._at.cache.add_brief(self._packet[2:], finished)
        else:
            self._at.cache.add(self._packet[2:], finished, depends_on)

    def _walked(self, absent: Answer, group: asyncio.TaskGroup) -> bool:
        """Goes through the rest of the search list that this name may be the first of; False
        where it is not, or leads nowhere that is known here."""
        at, query = self._at, self._query
        if not at.autopath_on or query.type not in (records.A, records.AAAA):
            return False
        walk = at.autopath.walk(query.name)
        if walk is None:
            return False
        for target in walk.inside:
            if at.zone.find(target):
                found = respond_as(at.zone, at.authority, query, target, self._largest)
                if isinstance(found, Answer):
                    self._give(found._replace(depends_on=found.depends_on | set(walk.inside)))
                else:
                    self._forward(found, group)
                return True
        if not walk.outside or not at.upstreams.any_up(walk.outside[-1]):
            return False
        return self._task(group, lambda: self._walk_outside(walk.outside, absent))

    async def _walk_outside(self, targets: tuple[bytes, ...], absent: Answer) -> None:
        """The first of these that exists, as an alias; else, or too late, the name is absent and
        the pod goes on by itself."""
        started = asyncio.get_running_loop().time()
        for target in targets:
            alias = Record(self._query.name, records.CNAME, target)
            forward = Forward(self._query, target, (alias,), frozenset())
            left = AUTOPATH_PATIENCE - (asyncio.get_running_loop().time() - started)
            try:
                async with asyncio.timeout(left):
                    message = await self._at.upstreams.ask(_asked(forward))
            except TimeoutError:
                break
            if message is not None and message[3] & 0xF == wire.NOERROR:
                self._send(_joined(forward, message, self._largest), wire.NOERROR, "forward")
                return
        self._send(absent.messages[0], absent.rcode, "zone")

    def _forward(self, found: Forward, group: asyncio.TaskGroup) -> None:
        kept = None if found.chain else self._at.upstreams.cached(self._query)
        if kept is None:
            if not self._task(group, lambda: self._ask(found)):
                self._fail(wire.SERVFAIL)
            return
        message, good_for = kept
        message = _fitting(message, self._query, self._largest)
        if good_for > 1.0 and not self._tcp and self._query.plain:
            rcode = message[3] & 0xF
            tally = self._at.counters.tally(self._query.type, rcode, "forward_cache")
            self._keep(Finished(tally, (message[2:],)), None)
        self._send(message, message[3] & 0xF, "forward_cache")

    async def _ask(self, found: Forward) -> None:
        message = await self._at.upstreams.ask(_asked(found))
        if message is None:
            self._fail(wire.SERVFAIL)
            return
        if found.chain:
            message = _joined(found, message, self._largest)
        else:
            message = _fitting(message, self._query, self._largest)
        self._send(message, message[3] & 0xF, "forward")

    def _task(
        self, group: asyncio.TaskGroup, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> bool:
        at = self._at
        if at.forwards >= MOST_FORWARDS:
            return False
        at.forwards += 1

        async def run() -> None:
            try:
                await work()
            finally:
                at.forwards -= 1

        group.create_task(run(), name="dns-forward")
        return True

    def _fail(self, rcode: int) -> None:
        message = wire.write(self._query, rcode, ttl=0, largest=self._largest, authoritative=False)
        self._send(message, rcode, "failed")

    def _send(self, message: bytes, rcode: int, how: How) -> None:
        at, query = self._at, self._query
        self._reply(message)
        at.counters.count(query.type, rcode, how)
        took = perf_counter() - self._started
        (at.counters.forwarded if how == "forward" else at.counters.local).add(took)
        if at.log == "all" or (at.log == "errors" and rcode == wire.SERVFAIL):
            log.log(
                logging.WARNING if rcode == wire.SERVFAIL else logging.INFO,
                "query answered",
                extra={
                    "question": names.decode(query.name),
                    "type": dns.rdatatype.to_text(dns.rdatatype.RdataType.make(query.type)),
                    "rcode": rcode,
                    "how": how,
                    "ms": round(took * 1000, 3),
                },
            )


def _asked(forward: Forward) -> Query:
    """The query for the upstream: for the last name of a chain, where there is one."""
    query = forward.query
    if not forward.chain:
        return query
    question = forward.target + struct.pack("!HH", query.type, query.klass)
    return query._replace(name=forward.target, question=question)


def _cut(query: Query, rcode: int, largest: int) -> bytes:
    cut = bytearray(wire.write(query, rcode, ttl=0, largest=largest, authoritative=False))
    cut[2] |= wire.TC >> 8
    return bytes(cut)


def _fitting(message: bytes, query: Query, largest: int) -> bytes:
    """The upstream's message, or, where it is too large, a cut one: the asker comes back by TCP."""
    return message if len(message) <= largest else _cut(query, message[3] & 0xF, largest)


def _joined(forward: Forward, message: bytes, largest: int) -> bytes:
    """Our chain of CNAMEs and, behind it, what the upstream says of the last name and of the names
    that leads to: nothing else it may have added."""
    parsed = dns.message.from_wire(message)
    sets = {
        ((rrset.name.to_wire() or b"\0").lower(), rrset.rdtype): rrset for rrset in parsed.answer
    }
    answers = list(forward.chain)
    ttl = DEFAULT_TTL
    name = forward.target
    # Each set is taken once, so a circle ends.
    while alias := sets.pop((name, dns.rdatatype.CNAME), None):
        ttl = min(ttl, alias.ttl)
        target = (alias[0].to_wire() or b"\0").lower()
        answers.append(Record(name, records.CNAME, target))
        name = target
    found = sets.get((name, dns.rdatatype.RdataType.make(forward.query.type)))
    if found is not None:
        ttl = min(ttl, found.ttl)
        answers += [Record(name, found.rdtype, data.to_wire() or b"") for data in found]
    return wire.write(
        forward.query, parsed.rcode(), answers, ttl=ttl, largest=largest, authoritative=False
    )
