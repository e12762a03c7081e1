"""UDP carried from a front to its backends by this process: a session for each client, ended by
silence.

Datagrams that find no room are dropped, as a network would.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from meshkube.dataplane.choosing import Choice
from meshkube.dataplane.services import Backend

SILENCE = 60.0
"""Seconds without a datagram either way after which a session ends."""
MOST_SESSIONS = 1024
"""Of one front; beyond them, the one that was silent longest ends."""
BATCH = 64
_LARGEST = 65536
_EVERY = "0.0.0.0"
_PKTINFO = 8
"""IP_PKTINFO of linux/in.h: which of this host's addresses a datagram was sent to."""

_Client = tuple[tuple[str, int], bytes]
"""The client's address, and the one it asked, as the kernel wants it back."""


@dataclass(slots=True)
class Session:
    client: _Client
    backend: Backend
    sock: socket.socket
    last: float


class UdpRelay:
    """Serves one front."""

    def __init__(self, choice: Choice, is_outside: Callable[[str], bool]) -> None:
        self._choice = choice
        self._is_outside = is_outside
        self._sock: socket.socket | None = None
        self._sessions: OrderedDict[_Client, Session] = OrderedDict()

    async def listen(self, made: socket.socket) -> None:
        """Takes over a bound socket."""
        if made.getsockname()[0] == _EVERY:
            # An answer comes from the address that was asked.
            made.setsockopt(socket.IPPROTO_IP, _PKTINFO, 1)
        self._sock = made
        asyncio.get_running_loop().add_reader(made, self._asked, made)

    def close(self) -> None:
        """Ends every session."""
        while self._sessions:
            self._end(next(iter(self._sessions.values())))
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def sweep(self, now: float) -> None:
        """Ends sessions that are silent for long. `now` as the loop's clock has it."""
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if now - oldest.last < SILENCE:
                return
            self._end(oldest)

    def forget(self, backend: str) -> int:
        """Ends the sessions with a backend, by its address; empty: all. Returns how many."""
        ended = [s for s in self._sessions.values() if backend in ("", s.backend.address)]
        for session in ended:
            self._end(session)
        return len(ended)

    def _asked(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, told, _, peer = sock.recvmsg(_LARGEST, 64)
            except BlockingIOError:
                return
            except OSError:
                # An error of an earlier answer: that client is gone, the others are not.
                continue
            session = self._session((peer[:2], _asked_address(told)))
            if session is not None:
                with contextlib.suppress(OSError):
                    session.sock.send(data)

    def _session(self, client: _Client) -> Session | None:
        now = asyncio.get_running_loop().time()
        found = self._sessions.get(client)
        if found is None:
            found = self._begin(client, now)
        if found is not None:
            found.last = now
            self._sessions.move_to_end(client)
        return found

    def _begin(self, client: _Client, now: float) -> Session | None:
        address = client[0][0]
        for backend in self._choice.pick(address, self._is_outside(address), now):
            family = socket.AF_INET6 if ":" in backend.address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.connect(backend)
            except OSError:
                sock.close()
                continue
            if len(self._sessions) >= MOST_SESSIONS:
                self._end(next(iter(self._sessions.values())))
            made = self._sessions[client] = Session(client, backend, sock, now)
            asyncio.get_running_loop().add_reader(sock, self._answered, made)
            self._choice.keep(address, backend, now)
            return made
        return None

    def _answered(self, session: Session) -> None:
        assert self._sock is not None
        peer, asked = session.client
        told = [(socket.IPPROTO_IP, _PKTINFO, asked)] if asked else []
        for _ in range(BATCH):
            try:
                data = session.sock.recv(_LARGEST)
                self._sock.sendmsg([data], told, 0, peer)
            except BlockingIOError:
                break
            except OSError:
                # Nobody listens there (any more): the next datagram finds another.
                self._end(session)
                return
        session.last = asyncio.get_running_loop().time()
        self._sessions.move_to_end(session.client)

    def _end(self, session: Session) -> None:
        if self._sessions.pop(session.client, None) is not None:
            asyncio.get_running_loop().remove_reader(session.sock)
            session.sock.close()


def _asked_address(told: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, data in told:
        if (level, kind) == (socket.IPPROTO_IP, _PKTINFO):
            _, _, destination = struct.unpack("=i4s4s", data[:12])
            return struct.pack("=i4s4s", 0, destination, b"\0\0\0\0")
    return b""
