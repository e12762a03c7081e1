"""Services without any right on the kernel: this process listens on their addresses and carries
their traffic itself.

The same compiled ruleset as nftables gets. Service addresses are the gateway's, in the pods'
network; without one they are of a loopback range, which everybody may listen on.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

from meshkube.dataplane import fronts
from meshkube.dataplane.choosing import Choice
from meshkube.dataplane.gateway import Gateway
from meshkube.dataplane.kernel import KernelError
from meshkube.dataplane.rules import Change, Ruleset
from meshkube.dataplane.services import PROTOCOLS, Front, Frontend, Left, Settings, Stale
from meshkube.dataplane.tcp_relay import TcpRelay
from meshkube.dataplane.udp_relay import UdpRelay
from meshkube.handover import bound_socket

log = logging.getLogger(__name__)

SWEEP = 5.0
INSTEAD = 10000
"""What is added to a port too low for this user: 80 is served at 10080, 443 at 10443."""
_LOOPBACK = (
    "pods of this node reach Services by the node's address (node ports, balancers' ports) and"
    " resolve no cluster names; "
)
_TCP, _UDP = PROTOCOLS["TCP"], PROTOCOLS["UDP"]


class UserKernel:
    """A `Kernel` that is this process."""

    def __init__(self, gateway: Gateway | None = None) -> None:
        self._gateway = gateway
        self._ruleset: Ruleset = {}
        self._choices: dict[Front, Choice] = {}
        self._relays: dict[Front, TcpRelay | UdpRelay] = {}
        self._refused: dict[Front, str] = {}
        """Fronts that cannot be listened on, and why."""
        self._epochs: dict[Front, int] = {}
        """Of which gateway a front has its socket."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._inside: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []

    @property
    def cannot(self) -> Mapping[str, str]:
        return {"SCTP": "it needs the kernel's rules (--dataplane nftables)"}

    @property
    def mode(self) -> str:
        return "userspace"

    @property
    def limits(self) -> str:
        return (
            f"Without the right to change the kernel's rules, {'' if self._gateway else _LOOPBACK}"
            "addresses of a pool are not announced, and pods of other nodes are out of reach"
        )

    async def open(self, settings: Settings, node_ip: str) -> None:
        cidrs = [*settings.pod_cidrs, *settings.service_cidrs, "127.0.0.0/8", "::1/128"]
        own = [node_ip] if node_ip else []
        self._inside = [ipaddress.ip_network(each) for each in [*cidrs, *own]]
        self._sweep()

    async def load(self, ruleset: Ruleset) -> None:
        old = set(self._choices)
        self._ruleset = {name: dict(elements) for name, elements in ruleset.items()}
        await self._settle(old | fronts.touched(self._ruleset))

    async def change(self, change: Change, left: Collection[Left] = ()) -> None:
        try:
            fronts.patch(self._ruleset, change)
        except KeyError as error:
            raise KernelError(f"{error} is not there") from None
        await self._settle(fronts.changed(change))

    async def forget(self, stale: Collection[Stale]) -> int:
        ended = 0
        for front, backend in stale:
            relay = self._relays.get(front._replace(outside=False))
            if isinstance(relay, UdpRelay):
                ended += relay.forget(backend)
        return ended

    async def release(self, left: Collection[Left]) -> int:
        """Nothing to do: whom a client kept to is looked for among those who are there."""
        return 0

    async def check(self, ruleset: Ruleset) -> list[str]:
        """Tries again where it could not listen. Nobody else has a hand in what this serves, but
        for the gateway's container."""
        now = self._gateway.epoch if self._gateway else 0
        lost = [front for front, epoch in self._epochs.items() if epoch != now]
        for front in lost:
            self._silence(front)
        await self._settle({*self._refused, *lost})
        return ["the gateway's container had ended"] if lost else []

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for relay in self._relays.values():
            relay.close()
        for task in self._tasks:
            task.cancel()
        self._relays.clear()
        self._choices.clear()
        self._ruleset = {}

    async def _settle(self, touched: Collection[Front]) -> None:
        for front in sorted({front._replace(outside=False) for front in touched}):
            inside = fronts.frontend(self._ruleset, front)
            if inside is None or not inside.backends:
                # Nobody listens: the host itself refuses, as the rules of nftables would.
                self._stop(front)
                continue
            outside = fronts.frontend(self._ruleset, front._replace(outside=True))
            await self._serve(front, inside, outside)

    async def _serve(self, front: Front, inside: Frontend, outside: Frontend | None) -> None:
        choice = self._choices.setdefault(front, Choice(inside))
        choice.update(inside, outside, fronts.sources(self._ruleset, front))
        if front in self._relays:
            return
        relay: TcpRelay | UdpRelay
        if front.protocol == _TCP:
            relay = TcpRelay(choice, self._is_outside, self._spawn)
        elif front.protocol == _UDP:
            relay = UdpRelay(choice, self._is_outside)
        else:
            return
        try:
            port = await self._listen(relay, front)
        except OSError as error:
            self._silence(front)
            self._cannot(front, _reason(front, error))
            return
        self._refused.pop(front, None)
        self._relays[front] = relay
        if port != front.port:
            reason = f"{_reason(front, OSError(errno.EACCES, ''))}; until then {port} answers"
            log.warning("a Service port is served elsewhere", extra={"reason": reason})

    async def _listen(self, relay: TcpRelay | UdpRelay, front: Front) -> int:
        """Returns the port; raises `OSError`."""
        try:
            made = await self._socket(front)
        except PermissionError:
            instead = front._replace(port=front.port + INSTEAD)
            if not front.address or fronts.frontend(self._ruleset, instead) is not None:
                raise
            made = await self._socket(instead)
        port = int(made.getsockname()[1])
        try:
            await relay.listen(made)
        except OSError:
            made.close()
            raise
        return port

    async def _socket(self, front: Front) -> socket.socket:
        """Bound to the front. Raises `OSError`."""
        kind = socket.SOCK_STREAM if front.protocol == _TCP else socket.SOCK_DGRAM
        gateway = self._gateway
        if gateway is None or not front.address or not gateway.has(front.address):
            family = socket.AF_INET6 if front.family == 6 else socket.AF_INET
            return bound_socket(kind, family, front.address, front.port)
        made = await asyncio.to_thread(gateway.opened, kind, front.address, front.port)
        self._epochs[front] = gateway.epoch
        return made

    def _stop(self, front: Front) -> None:
        self._choices.pop(front, None)
        self._refused.pop(front, None)
        self._silence(front)

    def _silence(self, front: Front) -> None:
        self._epochs.pop(front, None)
        relay = self._relays.pop(front, None)
        if relay is not None:
            relay.close()

    def _cannot(self, front: Front, reason: str) -> None:
        if self._refused.get(front) != reason:
            self._refused[front] = reason
            log.warning("a Service port is not served here", extra={"reason": reason})

    def _is_outside(self, client: str) -> bool:
        address = ipaddress.ip_address(client)
        return not any(address in network for network in self._inside)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A connection that is being made: it lives no longer than this."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection failed", extra={"reason": repr(task.exception())})

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for relay in self._relays.values():
            if isinstance(relay, UdpRelay):
                relay.sweep(loop.time())
        self._sweeper = loop.call_later(SWEEP, self._sweep)


def _reason(front: Front, error: OSError) -> str:
    place = f"{front.address or '*'}:{front.port}"
    if error.errno == errno.EACCES:
        return (
            f"{place}: this user may not listen on ports so low;"
            f" `sysctl net.ipv4.ip_unprivileged_port_start={front.port}` lets everybody"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place}: not an address of this host"
    if error.errno == errno.EADDRINUSE:
        return f"{place}: taken by another program"
    return f"{place}: {error.strerror}"
