"""Asking other servers: over UDP, then TCP where the answer is cut, then the next server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from meshkube.clock import Clock
from meshkube.dns import wire
from meshkube.dns.forwarded import ForwardedCache, Key, addressed, key_of, lifetime
from meshkube.dns.wire import Query

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 2.0
# A server that failed is asked last for this long.
SHUN_SECONDS = 10.0
RESOLV_CONF = Path("/etc/resolv.conf")

Server = tuple[str, int]


def host_servers(path: Path = RESOLV_CONF, own: frozenset[str] = frozenset()) -> list[Server]:
    """The name servers of this host, without our own addresses: asking ourselves would loop."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(address, 53) for address in found if address not in own]


class Upstreams:
    """Answers queries by asking servers, in order, the ones that failed lately last."""

    def __init__(self, servers: Sequence[Server], clock: Clock) -> None:
        self.servers = list(servers)
        self._clock = clock
        self._failed: dict[Server, float] = {}
        self._cache = ForwardedCache()
        self._asking: dict[Key, asyncio.Future[bytes | None]] = {}
        self.asked = 0
        self.failures = 0

    def cached(self, query: Query) -> bytes | None:
        """The whole answer where one is kept."""
        return self._cache.get(query, self._clock.monotonic())

    async def ask(self, query: Query) -> bytes | None:
        """The whole answer, of any size; None where no server gave one. The same question is
        under way only once."""
        key = key_of(query)
        under_way = self._asking.get(key)
        if under_way is not None:
            message = await asyncio.shield(under_way)
        else:
            message = await self._ask_once(key, query)
        return None if message is None else addressed(message, query)

    async def _ask_once(self, key: Key, query: Query) -> bytes | None:
        future = self._asking[key] = asyncio.get_running_loop().create_future()
        message: bytes | None = None
        try:
            message = await self._ask_servers(key, query)
        finally:
            del self._asking[key]
            future.set_result(message)
        return message

    async def _ask_servers(self, key: Key, query: Query) -> bytes | None:
        question = _question(query)
        for server in self._in_order():
            self.asked += 1
            try:
                response, _ = await dns.asyncquery.udp_with_fallback(
                    question, server[0], timeout=ANSWER_TIMEOUT, port=server[1]
                )
            except (dns.exception.DNSException, OSError, EOFError) as error:
                self.failures += 1
                self._failed[server] = self._clock.monotonic()
                log.warning(
                    "upstream did not answer",
                    extra={"server": server[0], "reason": f"{type(error).__name__}: {error}"},
                )
                continue
            self._failed.pop(server, None)
            message = response.to_wire(max_size=wire.LARGEST_TCP)
            if len(message) < 12 + len(query.question):
                # A server may leave the question out of an error: then it is ours to say.
                return wire.write(
                    query, response.rcode(), ttl=0, largest=wire.LARGEST_UDP, authoritative=False
                )
            with contextlib.suppress(wire.Malformed):
                self._cache.add(key, message, lifetime(response), self._clock.monotonic())
            return message
        return None

    def _in_order(self) -> list[Server]:
        now = self._clock.monotonic()
        shunned = {s for s, since in self._failed.items() if now - since < SHUN_SECONDS}
        return sorted(self.servers, key=lambda server: server in shunned)


def _question(query: Query) -> dns.message.Message:
    name, _ = dns.name.from_wire(query.name, 0)
    message = dns.message.make_query(
        name,
        dns.rdatatype.RdataType.make(query.type),
        dns.rdataclass.IN,
        use_edns=0 if query.edns >= 0 else False,
        want_dnssec=query.dnssec_ok,
        payload=wire.LARGEST_UDP,
    )
    message.flags = dns.flags.Flag(query.flags & (wire.RD | wire.CD))
    return message
