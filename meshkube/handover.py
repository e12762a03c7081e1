"""Listening sockets that outlive the process, so that a restart in place refuses nobody.

A daemon that restarts (SIGUSR2) becomes its new version by exec. It leaves its listening sockets
open: whoever connects meanwhile waits in the kernel's queue, and the new version takes them over.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, MutableMapping

VARIABLE = "MESHKUBE_SOCKETS"
"""File descriptors, with commas, for the process that exec makes."""

_Key = tuple[socket.SocketKind, socket.AddressFamily, str, int]


class Handover:
    """What the process before left, and what this one would leave. Keeps nothing before `begin`."""

    def __init__(self) -> None:
        self._kept: dict[_Key, list[socket.socket]] = {}
        self._keeping = False

    def begin(self, environment: MutableMapping[str, str]) -> None:
        """Takes over what was left, and keeps what is opened from now on."""
        self._keeping = True
        for text in environment.pop(VARIABLE, "").split(","):
            with contextlib.suppress(OSError, ValueError):
                taken = socket.socket(fileno=int(text))
                taken.set_inheritable(False)
                self._kept.setdefault(_key(taken), []).append(taken)

    def pass_on(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment for exec; from here on the sockets survive it."""
        all_kept = [each for kept in self._kept.values() for each in kept]
        for each in all_kept:
            each.set_inheritable(True)
        left = ",".join(str(each.fileno()) for each in all_kept)
        return {**environment, VARIABLE: left}

    def end(self) -> None:
        """Keeps nothing any longer: a port is free once its user has closed it."""
        self._keeping = False
        while self._kept:
            for each in self._kept.popitem()[1]:
                each.close()

    def opened(
        self, kind: socket.SocketKind, host: str, port: int, slot: int = 0, of: int = 1
    ) -> socket.socket:
        """A socket bound there: that number `slot` of so many which share the port. Those too many
        from before are closed. Raises `OSError`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kept = self._kept.get((kind, family, host, port), [])
        while len(kept) > of:
            kept.pop().close()
        if of > 1:
            for each in kept:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if slot < len(kept):
            return kept[slot].dup()
        made = bound_socket(kind, family, host, port, shared=of > 1)
        if self._keeping:
            self._kept.setdefault(_key(made), []).append(made.dup())
        return made


HANDOVER = Handover()
"""Of this process."""


def tcp(host: str | None, port: int, slot: int = 0, of: int = 1) -> list[socket.socket]:
    """Sockets to listen on with TCP; `host` None: one for every address of each family. The caller
    owns and closes them. Where several processes share a port, `slot` says for which `of` them.
    Raises `OSError`."""
    if host is not None:
        return [HANDOVER.opened(socket.SOCK_STREAM, host, port, slot, of)]
    made = [HANDOVER.opened(socket.SOCK_STREAM, "0.0.0.0", port, slot, of)]
    if socket.has_ipv6:
        # The port is free for one family and taken for the other on a host without IPv6, too.
        with contextlib.suppress(OSError):
            bound = made[0].getsockname()[1]
            made.append(HANDOVER.opened(socket.SOCK_STREAM, "::", bound, slot, of))
    return made


def udp(host: str, port: int) -> socket.socket:
    """The same for UDP: what arrives meanwhile waits in the socket's buffer."""
    return HANDOVER.opened(socket.SOCK_DGRAM, host, port)


def bound_socket(
    kind: socket.SocketKind,
    family: socket.AddressFamily,
    host: str,
    port: int,
    *,
    shared: bool = False,
) -> socket.socket:
    """A new socket for listening, of one family alone. Raises `OSError`."""
    made = socket.socket(family, kind)
    bind(made, host, port, shared=shared)
    return made


def bind(made: socket.socket, host: str, port: int, *, shared: bool = False) -> None:
    """Makes it a socket for listening. Raises `OSError`; then it is closed."""
    try:
        made.setblocking(False)
        if made.type is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted ones inherit it. asyncio does it for sockets that name their protocol alone.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if made.family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise


def _key(found: socket.socket) -> _Key:
    host, port = found.getsockname()[:2]
    return found.type, found.family, host, port
