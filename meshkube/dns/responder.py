"""From a query to its answer: pure. What is not ours to answer comes back as a `Forward`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshkube.dns import names, records, wire
from meshkube.dns.records import Record
from meshkube.dns.settings import DEFAULT_TTL
from meshkube.dns.wire import Query
from meshkube.dns.zone import RecordSets, Zone

NEGATIVE_TTL = 5
LONGEST_CHAIN = 8
NOT_ANY_TTL = 3600
# Answers with several addresses are kept in this many orders at most.
MOST_ORDERS = 8
_ADDRESS_TYPES = (records.A, records.AAAA)


class Answer(NamedTuple):
    """The whole answer, in each order in which it may be given, and every name it depends on."""

    messages: tuple[bytes, ...]
    depends_on: frozenset[bytes]
    rcode: int


class Forward(NamedTuple):
    """A question for an upstream: the query itself, or, where `chain` leads out of our zones, the
    last name of that chain of CNAMEs."""

    query: Query
    target: bytes
    chain: tuple[Record, ...]
    depends_on: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Authority:
    """The zones that only we answer for."""

    domain: str
    zones: tuple[tuple[bytes, str], ...]
    """Each in wire form and readable: the cluster's domain, and its networks' reverse zones."""
    ttl: int = DEFAULT_TTL
    """Seconds that an answer may be kept."""

    @classmethod
    def of(cls, domain: str, networks: Sequence[str], ttl: int = DEFAULT_TTL) -> Authority:
        zones = (domain, *(names.reverse_zone(network) for network in networks))
        return cls(domain, tuple((names.encode(zone), zone) for zone in zones), ttl)

    def zone_of(self, name: bytes) -> str | None:
        """The zone of ours that holds the name."""
        for apex, zone in self.zones:
            if names.within(name, apex):
                return zone
        return None


def respond(zone: Zone, authority: Authority, query: Query, largest: int) -> Answer | Forward:
    """Answers from the zone in at most `largest` bytes."""
    refused = _unanswerable(query)
    if refused is not None:
        return _plain(query, refused, largest)
    own_zone = authority.zone_of(query.name)
    found = zone.find(query.name)
    if own_zone is None and query.type == records.ANY:
        return _minimal(query, largest)
    if own_zone is None and not found:
        return Forward(query, query.name, (), frozenset())
    return _follow(zone, authority, query, [], query.name, own_zone or authority.domain, largest)


def respond_as(
    zone: Zone, authority: Authority, query: Query, target: bytes, largest: int
) -> Answer | Forward:
    """Answers as if the name asked for were an alias of `target`."""
    alias = Record(query.name, records.CNAME, target)
    return _follow(zone, authority, query, [alias], target, authority.domain, largest)


def _unanswerable(query: Query) -> int | None:
    if query.flags & wire.OPCODE:
        return wire.NOTIMP
    if query.edns > 0:
        return wire.BADVERS
    if query.klass != wire.IN or query.type in (records.AXFR, records.IXFR):
        return wire.REFUSED
    return None


def _plain(query: Query, rcode: int, largest: int) -> Answer:
    message = wire.write(query, rcode, ttl=0, largest=largest, authoritative=False)
    return Answer((message,), frozenset(), rcode)


def _minimal(query: Query, largest: int) -> Answer:
    """What ANY is told of other people's names: nothing, and for how long (RFC 8482)."""
    told = [Record(query.name, records.HINFO, records.NOT_ANY)]
    message = wire.write(query, wire.NOERROR, told, ttl=NOT_ANY_TTL, largest=largest)
    return Answer((message,), frozenset(), wire.NOERROR)


def _follow(
    zone: Zone,
    authority: Authority,
    query: Query,
    chain: list[Record],
    name: bytes,
    own_zone: str,
    largest: int,
) -> Answer | Forward:
    """Walks the chain of CNAMEs, which may have begun, from `name` to the records asked for."""
    seen = {query.name, name}
    found = zone.find(name)
    if found is None and chain and authority.zone_of(name) is None:
        return Forward(query, name, tuple(chain), frozenset(seen))
    while found and records.CNAME in found and query.type not in (records.CNAME, records.ANY):
        target = found[records.CNAME][0]
        chain.append(Record(name, records.CNAME, target))
        name = target.lower()
        if name in seen or len(chain) >= LONGEST_CHAIN:
            return _plain(query, wire.SERVFAIL, largest)
        seen.add(name)
        found = zone.find(name)
        if found is None and authority.zone_of(name) is None:
            return Forward(query, name, tuple(chain), frozenset(seen))
    return _conclude(zone, authority, query, name, found, chain, own_zone, largest, seen)


def _conclude(
    zone: Zone,
    authority: Authority,
    query: Query,
    name: bytes,
    found: RecordSets | None,
    chain: list[Record],
    own_zone: str,
    largest: int,
    seen: set[bytes],
) -> Answer:
    start = records.soa(own_zone, authority.domain, zone.serial, NEGATIVE_TTL)
    if query.type == records.SOA and name == start.name:
        answers = [start]
    elif query.type == records.ANY and found:
        answers = [Record(name, records.HINFO, records.NOT_ANY)]
    else:
        answers = [Record(name, query.type, data) for data in (found or {}).get(query.type, ())]
    rcode = wire.NOERROR if found is not None or answers or name == start.name else wire.NXDOMAIN
    extra = _addresses_of_targets(zone, answers, seen)

    def message(ordered: Sequence[Record]) -> bytes:
        return wire.write(
            query,
            rcode,
            [*chain, *ordered],
            () if answers else (start,),
            extra,
            ttl=authority.ttl,
            largest=largest,
        )

    return Answer(tuple(message(order) for order in _orders(answers)), frozenset(seen), rcode)


def _orders(answers: list[Record]) -> list[list[Record]]:
    """Every rotation of several addresses, so that askers who take the first one spread."""
    if len(answers) < 2 or answers[0].type not in _ADDRESS_TYPES:
        return [answers]
    return [answers[n:] + answers[:n] for n in range(min(len(answers), MOST_ORDERS))]


def _addresses_of_targets(zone: Zone, answers: list[Record], seen: set[bytes]) -> list[Record]:
    """For SRV answers: the addresses of their targets, to spare the next question."""
    extra: list[Record] = []
    for record in answers:
        if record.type != records.SRV:
            continue
        target = record.data[6:]
        if target in seen:
            continue
        seen.add(target)
        sets = zone.find(target) or {}
        extra += [Record(target, kind, d) for kind in _ADDRESS_TYPES for d in sets.get(kind, ())]
    return extra
