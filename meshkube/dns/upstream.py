"""Asking other servers: which ones, in what order, and what is kept of their answers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.rcode

from meshkube.clock import Clock
from meshkube.dns import exchange, names, wire
from meshkube.dns.forwarded import Entry, ForwardedCache, Key, addressed, aged, key_of, lifetime
from meshkube.dns.health import Health
from meshkube.dns.settings import Server
from meshkube.dns.wire import Query

# The next server is asked too where one is silent for this long.
HEDGE_SECONDS = 0.4
# An answer beyond its end is given where no server answered within this time (RFC 8767, section 5).
STALE_PATIENCE = 1.8
PROBE_SECONDS = 1.0
RESOLV_CONF = Path("/etc/resolv.conf")
# Another server may do better than these.
_POOR = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED})


def host_servers(path: Path = RESOLV_CONF, own: frozenset[str] = frozenset()) -> list[Server]:
    """The name servers of this host, without our own addresses: asking ourselves would loop."""
    found = [words[1] for words in _lines(path) if len(words) > 1 and words[0] == "nameserver"]
    return [(address, 53) for address in found if address not in own]


def host_search(path: Path = RESOLV_CONF) -> list[str]:
    """This host's search list (resolv.conf(5): the last line counts)."""
    found = [words[1:] for words in _lines(path) if words[:1] in (["search"], ["domain"])]
    return [domain for domain in (found[-1] if found else []) if domain != "."]


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []


class Upstreams:
    """Answers queries by asking servers. The same question is under way only once.

    Part of the server: `run` must run for questions to be asked.
    """

    def __init__(self, servers: Sequence[Server], clock: Clock) -> None:
        self._clock = clock
        self._zones: list[tuple[bytes, tuple[Server, ...]]] = []
        self._cache = ForwardedCache()
        self._asking: dict[Key, asyncio.Task[bytes | None]] = {}
        self._probes: dict[bytes, Server] = {}
        self._group: asyncio.TaskGroup | None = None
        self.health = Health(clock)
        self.prefetch = True
        self.configure(servers, {})

    def configure(
        self,
        servers: Sequence[Server],
        stub_domains: Mapping[str, Sequence[Server]],
        serve_stale: int = 0,
    ) -> None:
        """Asks `servers`, and those of the longest stub domain that holds a name."""
        zones = {"": servers, **stub_domains}
        found = [(names.encode(domain), tuple(each)) for domain, each in zones.items()]
        found.sort(key=lambda row: -len(row[0]))
        self._cache.stale = serve_stale
        if found == self._zones:
            return
        self._zones = found
        self._cache.clear()
        self.health.forget(self.servers())
        self._look_for_loops()

    def servers(self) -> list[Server]:
        """All that may be asked."""
        return list(dict.fromkeys(server for _, each in self._zones for server in each))

    def of(self, name: bytes) -> tuple[Server, ...]:
        """Who is asked about a name."""
        return next(each for zone, each in self._zones if names.within(name, zone))

    def any_up(self, name: bytes) -> bool:
        """Whether anybody is expected to answer for this name."""
        return any(self.health.is_up(server) for server in self.of(name))

    def looped(self, name: bytes) -> Server | None:
        """The server that sent our own question back to us, where this is one."""
        server = self._probes.pop(name, None)
        if server is not None:
            self.health.looping.add(server)
        return server

    def cached(self, query: Query) -> tuple[bytes, float] | None:
        """The whole answer where a good one is kept, and for how many seconds it stays good."""
        now = self._clock.monotonic()
        key = key_of(query)
        entry = self._cache.get(key, now)
        if entry is None:
            return None
        if self.prefetch and entry.wears_out(now):
            self._ask_once(key, query)
        return aged(entry, query, now), entry.expires - now

    async def ask(self, query: Query) -> bytes | None:
        """The whole answer, of any size; None where no server gave one and none is kept."""
        kept = self.cached(query)
        if kept is not None:
            return kept[0]
        key = key_of(query)
        task = self._ask_once(key, query)
        stale = self._cache.get_stale(key, self._clock.monotonic())
        patience = None if stale is None else STALE_PATIENCE if self.any_up(query.name) else 0
        # Who asked may go away; the question goes on, for the others and for the cache.
        await asyncio.wait({task}, timeout=patience)
        message = task.result() if task.done() and not task.cancelled() else None
        if stale is not None and (message is None or _rcode(message) in _POOR):
            return self._stale(stale, query)
        return None if message is None else addressed(message, query)

    def _stale(self, entry: Entry, query: Query) -> bytes:
        return aged(entry, query, max(self._clock.monotonic(), entry.expires))

    def _ask_once(self, key: Key, query: Query) -> asyncio.Task[bytes | None]:
        task = self._asking.get(key)
        if task is None:
            assert self._group is not None, "asked before it runs"
            task = self._group.create_task(self._ask_servers(key, query), name="dns-ask")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _ask_servers(self, key: Key, query: Query) -> bytes | None:
        response = await self._best(self.of(query.name), exchange.question(query))
        if response is None:
            return None
        try:
            message = response.to_wire(max_size=wire.LARGEST_TCP)
        except dns.exception.DNSException:
            return None
        if len(message) < 12 + len(query.question):
            # A server may leave the question out of an error: then it is ours to say.
            return wire.write(
                query, response.rcode(), ttl=0, largest=wire.LARGEST_UDP, authoritative=False
            )
        poor_beside_better = response.rcode() in _POOR and self._cache.stale
        if not poor_beside_better:
            with contextlib.suppress(wire.Malformed):
                self._cache.add(key, message, lifetime(response), self._clock.monotonic())
        return message

    async def _best(
        self, servers: Iterable[Server], question: dns.message.Message
    ) -> dns.message.Message | None:
        """The first good answer; a failure that a server reports only where there is none."""
        waiting = iter(self.health.in_order(servers))
        poor: dns.message.Message | None = None
        race: dict[asyncio.Task[dns.message.Message | None], Server] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                server = next(waiting, None)
                if server is not None:
                    race[group.create_task(self._one(server, question))] = server
                elif not race:
                    return poor
                patience = None if server is None else HEDGE_SECONDS
                done, _ = await asyncio.wait(
                    race, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del race[task]
                    answer = task.result()
                    if answer is not None and answer.rcode() not in _POOR:
                        self._overtaken(race)
                        return answer
                    poor = poor or answer

    def _overtaken(self, race: Mapping[asyncio.Task[dns.message.Message | None], Server]) -> None:
        """Those asked before the one that answered are slow or gone: they come last from now on."""
        for task, server in race.items():
            task.cancel()
            self.health.failed(server, "another server answered first")

    async def _one(
        self, server: Server, question: dns.message.Message
    ) -> dns.message.Message | None:
        self.health.asked[server] = self.health.asked.get(server, 0) + 1
        try:
            response = await exchange.ask(server, question)
        except exchange.NoAnswer as error:
            self.health.failed(server, str(error))
            return None
        self.health.answered(server)
        return response

    async def run(self) -> None:
        """Asks what is to be asked, and servers that are down whether they are back."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self._look_for_loops()
                while True:
                    await asyncio.sleep(PROBE_SECONDS)
                    for server in self.health.down():
                        group.create_task(self._probe(server), name="dns-probe")
            finally:
                self._group = None

    async def _probe(self, server: Server) -> None:
        with contextlib.suppress(exchange.NoAnswer):
            await exchange.ask(server, exchange.root_question())
            self.health.answered(server)

    def _look_for_loops(self) -> None:
        """Asks every server for a name of its own: one that comes back to us goes in a circle."""
        if self._group is None:
            return
        self._probes.clear()
        for server in self.servers():
            name = names.encode(f"{secrets.token_hex(12)}.meshkube-loop-check")
            self._probes[name] = server
            self._group.create_task(self._loop_probe(server, name), name="dns-loop-check")

    async def _loop_probe(self, server: Server, name: bytes) -> None:
        with contextlib.suppress(exchange.NoAnswer):
            await exchange.ask(server, exchange.loop_question(name))


def _rcode(message: bytes) -> int:
    return message[3] & 0xF
