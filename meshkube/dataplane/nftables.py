"""The kernel's nftables: one table, loaded whole once and then changed by elements.

All work is done by one thread, so transactions follow each other and the event loop never waits.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from meshkube.clock import Clock, SystemClock
from meshkube.dataplane import (
    bridge,
    host,
    libnft,
    link_addresses,
    netlink,
    network_kernel,
    rules,
    script,
    snapshot,
)
from meshkube.dataplane.kernel import KernelError
from meshkube.dataplane.rules import Change, Ruleset
from meshkube.dataplane.services import Left, Settings, Stale

log = logging.getLogger(__name__)
T = TypeVar("T")

# Somebody else's change (Docker's, say) may come with each container, and reading back every
# element of a big table costs a second of CPU: this share of the time may go into it.
READING_SHARE = 0.01
LOOK_EVERY = 60.0
_NFT_ERRORS = (libnft.NftError, host.HostError, OSError)


class NftKernel:
    """A `Kernel` over nftables. Errors of nft and of the host come out as `KernelError`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._thread: ThreadPoolExecutor | None = None
        self._nft: libnft.Nft | None = None
        self._generations: netlink.Generations | None = None
        self._settings: Settings | None = None
        self._node_ip = ""
        self._links: socket.socket | None = None
        self._moved = False
        """A link or a route has changed since the last look at the host."""
        self._ports_wait = False
        self._seen: int | None = None
        self._look_at = 0.0
        self._known: int | None = None
        """The generation whose rules are known to be ours as we left them."""
        self._shaped: int | None = None
        """The generation at which chains and rules, but not yet elements, were found right."""
        self._read_after = 0.0

    @property
    def cannot(self) -> Mapping[str, str]:
        return {} if host.tracks_sctp() else {"SCTP": "this kernel does not track its connections"}

    @property
    def mode(self) -> str:
        return "nftables"

    @property
    def limits(self) -> str:
        return ""

    async def open(self, settings: Settings, node_ip: str) -> None:
        self._settings, self._node_ip = settings, node_ip
        await self._do(self._open)
        self._links = bridge.watch()
        asyncio.get_running_loop().add_reader(self._links, self._links_changed)
        self._links_changed()

    async def load(self, ruleset: Ruleset) -> None:
        await self._do(partial(self._load, ruleset))

    async def change(self, change: Change, left: Collection[Left] = ()) -> None:
        await self._do(partial(self._change, change, left))

    async def forget(self, stale: Collection[Stale]) -> int:
        return await self._do(partial(netlink.forget, stale))

    async def release(self, left: Collection[Left]) -> int:
        return await self._do(partial(self._release, left))

    async def check(self, ruleset: Ruleset) -> list[str]:
        return await self._do(partial(self._check, ruleset))

    async def close(self) -> None:
        if self._links is not None:
            asyncio.get_running_loop().remove_reader(self._links)
            self._links.close()
            self._links = None
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)
            # What is under way (a transaction, at most) is the last user of these.
            await asyncio.to_thread(thread.shutdown)
            self._let_go()

    def _let_go(self) -> None:
        for held in (self._nft, self._generations):
            if held is not None:
                held.close()
        self._nft = self._generations = None

    async def _do(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="nft")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work)
        except _NFT_ERRORS as error:
            raise KernelError(str(error)) from error

    def _links_changed(self) -> None:
        """A pod may have come: its port of the bridge is made ready at once."""
        if self._links is not None and self._thread is not None:
            bridge.drain(self._links)
            self._moved = True
            if not self._ports_wait:
                self._ports_wait = True
                self._thread.submit(self._allow_hairpins)

    def _allow_hairpins(self) -> None:
        assert self._settings is not None
        self._ports_wait = False
        try:
            bridge.allow_hairpins(self._settings.bridge)
        except OSError as error:
            log.warning(
                "a pod may not reach itself through its Service", extra={"reason": str(error)}
            )

    def _open(self) -> None:
        assert self._settings is not None
        try:
            self._nft = libnft.find()
        except libnft.NftError as error:
            raise KernelError(f"nftables cannot be used on this host: {error}") from error
        self._generations = netlink.Generations()
        for change in host.prepare(self._settings, self._node_ip):
            log.info("host prepared for Services", extra={"set": change})
        self._settings = replace(self._settings, bridged=host.bridged())
        self._let_through()

    def _load(self, ruleset: Ruleset) -> None:
        assert self._settings is not None
        kept = {
            key: to
            for key, to in self._affinities().items()
            if rules.binds(ruleset, key, to.backend)
        }
        self._commit(script.load(ruleset, self._settings, kept), ruleset, whole=True)

    def _affinities(self) -> dict[str, script.Affinity]:
        assert self._nft is not None
        assert self._settings is not None
        found: dict[str, script.Affinity] = {}
        for family in self._settings.families:
            found |= snapshot.affinities(self._nft.map(script.TABLE, f"affinity{family}"))
        return found

    def _release(self, left: Collection[Left]) -> int:
        gone = self._bound(left)
        if gone:
            self._commit(script.release(gone))
        return len(gone)

    def _bound(self, left: Collection[Left]) -> dict[str, str]:
        """Which clients of which fronts keep to these."""
        wanted = {
            (front.address, str(front.protocol), str(front.port), f"{to.address} . {to.port}")
            for front, to in left
        }
        gone = {}
        for key, to in self._affinities().items():
            _, address, *way = key.split(" . ")
            if not wanted.isdisjoint({(address, *way, to.backend), ("", *way, to.backend)}):
                gone[key] = to.backend
        return gone

    def _change(self, change: Change, left: Collection[Left]) -> None:
        bound = self._bound(left) if left else {}
        text = script.change(change) + (script.release(bound) if bound else "")
        self._commit(text, change.classes_added)

    def _commit(self, text: str, classes: Iterable[str] = (), *, whole: bool = False) -> None:
        """`classes`: those that the script makes, perhaps not yet whole."""
        assert self._nft is not None
        assert self._generations is not None
        before = self._generations.now()
        self._nft.run(text)
        rest = script.netlink_rules(classes)
        if rest:
            netlink.add_rules(rest)
        after = self._generations.now() - bool(rest)
        # A whole load leaves nothing of what was there before.
        ours = after == before + 1 and (whole or before == self._known)
        self._known = after + bool(rest) if ours else None

    def _check(self, ruleset: Ruleset) -> list[str]:
        assert self._generations is not None
        generation = self._generations.now()
        found = self._check_host(generation)
        if generation == self._known:
            return found
        broken = self._compare(ruleset, generation)
        if broken is None:
            return found
        if not broken:
            self._known = generation
        return found + broken

    def _check_host(self, generation: int) -> list[str]:
        """Looks when there was a sign of change (`iptables` writes nftables rules as well), and
        now and then without one."""
        assert self._settings is not None
        now = self._clock.monotonic()
        if generation == self._seen and not self._moved and now < self._look_at:
            return []
        self._seen, self._moved, self._look_at = generation, False, now + LOOK_EVERY
        try:
            found = host.prepare(self._settings, self._node_ip)
        except host.HostError as error:
            log.warning("the host may not fit Services", extra={"reason": str(error)})
            found = []
        return [f"missing: {change}" for change in found] + self._let_through()

    def _compare(self, ruleset: Ruleset, generation: int) -> list[str] | None:
        """What was wrong and has been repaired; None where it is too early to read everything."""
        assert self._settings is not None
        assert self._nft is not None
        reader = libnft.reader(self._nft, ruleset)
        if generation != self._shaped:
            items = reader.table(script.TABLE, elements=False)
            if items is None or snapshot.shape(items) != script.shape(ruleset, self._settings):
                self._load(ruleset)
                return ["the table is gone" if items is None else "chains or rules were changed"]
            self._shaped = generation
        started = self._clock.monotonic()
        if started < self._read_after:
            return None
        held = snapshot.ruleset(reader.table(script.TABLE) or ())
        ended = self._clock.monotonic()
        self._read_after = ended + (ended - started) / READING_SHARE
        change = rules.diff(held, ruleset)
        if not change:
            return []
        self._load(ruleset)
        count = sum(map(len, change.deleted.values())) + sum(map(len, change.added.values()))
        return [f"{count} elements were changed"]

    def _let_through(self) -> list[str]:
        assert self._settings is not None
        try:
            return [
                f"missing: {host.DOCKER_CHAIN} {rule}" for rule in host.let_through(self._settings)
            ]
        except host.HostError as error:
            log.warning(
                "Docker may drop traffic from other hosts to pods", extra={"reason": str(error)}
            )
            return []


def teardown() -> list[str]:
    """Removes the table, announced addresses, the pod network, routes and the rules among Docker's.
    Blocking; may be run again, and where only some of it is there. Returns what it removed."""
    removed = []
    try:
        nft = libnft.find()
        if nft.table(script.TABLE, elements=False) is not None:
            nft.run(f"delete table {script.TABLE}")
            removed.append(f"nft table {script.TABLE}")
    except libnft.NftError as error:
        log.warning("nftables cannot be reached", extra={"reason": str(error)})
    return removed + link_addresses.teardown() + network_kernel.teardown() + host.teardown()
