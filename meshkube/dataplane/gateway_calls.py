"""System calls made by the gateway's program for the daemon, over the socket between them.

Blocking and bounded by a time-out; for any thread. Sources: unix(7), cmsg(3), rtnetlink(7).
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
import threading
from typing import NamedTuple

from meshkube.dataplane.netlink_wire import attribute

_TIMEOUT = 5.0
_ARGUMENTS = struct.Struct("<5Q24x")
_ANSWER = struct.Struct("<qQ")
_CLOSE_ON_EXEC = 0x40000000  # MSG_CMSG_CLOEXEC
_SOCKET_LEVEL, _RIGHTS = 1, 1
_MESSAGE = struct.Struct("<QI4xQQQQi4x")  # struct msghdr
_NEW_ROUTE, _FLAGS = 24, 0x1 | 0x4 | 0x400 | 0x100  # request, acknowledge, create or replace
_LOCAL_TABLE, _STATIC, _HOST_SCOPE, _LOCAL = 255, 4, 254, 2
_DESTINATION, _LINK = 1, 4
_ACKNOWLEDGED = struct.Struct("=16xi")  # struct nlmsghdr, and the code of struct nlmsgerr
_LOOPBACK = 1  # the index of `lo` in every network


class _Numbers(NamedTuple):
    """Of system calls."""

    socket: int
    sendto: int
    recvfrom: int
    sendmsg: int
    close: int


_NUMBERS = {
    "x86_64": _Numbers(41, 44, 45, 46, 3),
    "aarch64": _Numbers(198, 206, 207, 211, 57),
}


class Calls:
    """The far end of one connection of the program."""

    def __init__(self, connection: socket.socket, machine: str) -> None:
        """Takes over the connection. Raises `OSError` where nothing comes over it."""
        connection.settimeout(_TIMEOUT)
        self._connection = connection
        self._numbers = _NUMBERS[machine]
        self._lock = threading.Lock()
        self._memory, self._itself = self._answer(connection.recv(_ANSWER.size))

    def close(self) -> None:
        """The program ends."""
        self._connection.close()

    @property
    def ended(self) -> bool:
        """Whether the program is gone."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return bool(poll.poll(0))

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A new socket of the gateway's network, for IPv4. Raises `OSError`."""
        with self._lock:
            number = self._call(self._numbers.socket, socket.AF_INET, kind)
            try:
                return socket.socket(fileno=self._taken(number))
            finally:
                self._call(self._numbers.close, number)

    def answer_for(self, network: str) -> None:
        """Has the gateway take every address of a network for its own. Raises `OSError`."""
        message = local_route(network)
        with self._lock:
            link = self._call(self._numbers.socket, socket.AF_NETLINK, socket.SOCK_RAW)
            try:
                at = self._memory + _ARGUMENTS.size
                self._call(self._numbers.sendto, link, at, len(message), data=message)
                # The kernel has answered before the call returned.
                self._call(self._numbers.recvfrom, link, at, _ACKNOWLEDGED.size)
                (code,) = _ACKNOWLEDGED.unpack(self._read(at, _ACKNOWLEDGED.size))
                if code:
                    raise OSError(-code, f"{network}: {os.strerror(-code)}")
            finally:
                self._call(self._numbers.close, link)

    def _read(self, at: int, size: int) -> bytes:
        """The program's memory."""
        self._connection.send(_ARGUMENTS.pack(self._numbers.sendto, self._itself, at, size, 0))
        data = self._connection.recv(size)
        self._answer(self._connection.recv(_ANSWER.size))
        return data

    def _taken(self, number: int) -> int:
        """The program's file of that number as one of this process."""
        at = self._memory + _ARGUMENTS.size
        data = rights(number, at)
        request = _ARGUMENTS.pack(self._numbers.sendmsg, self._itself, at, 0, 0) + data
        self._connection.send(request)
        answer, files, _, _ = socket.recv_fds(
            self._connection, _ANSWER.size, 1, flags=_CLOSE_ON_EXEC
        )
        if files:
            answer = self._connection.recv(_ANSWER.size)
        self._answer(answer)
        return files[0]

    def _call(self, number: int, *arguments: int, data: bytes = b"") -> int:
        padded = (*arguments, 0, 0, 0, 0)[:4]
        self._connection.send(_ARGUMENTS.pack(number, *padded) + data)
        return self._answer(self._connection.recv(_ANSWER.size))[0]

    def _answer(self, data: bytes) -> tuple[int, int]:
        if len(data) < _ANSWER.size:
            raise ConnectionError("the gateway has ended")
        result, itself = _ANSWER.unpack(data)
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return result, itself


def rights(number: int, at: int) -> bytes:
    """A message for sendmsg(2) that stands at the address `at`: a byte, with a file beside it."""
    control = struct.pack("<Qiii4x", 20, _SOCKET_LEVEL, _RIGHTS, number)
    vector_at = at + _MESSAGE.size
    control_at = vector_at + 16
    byte_at = control_at + len(control)
    header = _MESSAGE.pack(0, 0, vector_at, 1, control_at, len(control), 0)
    return header + struct.pack("<QQ", byte_at, 1) + control + b"."


def local_route(network: str) -> bytes:
    """The message that makes every address of an IPv4 network one of the host itself."""
    parsed = ipaddress.IPv4Network(network)
    content = struct.pack(
        "=8BI",
        *(socket.AF_INET, parsed.prefixlen, 0, 0, _LOCAL_TABLE, _STATIC, _HOST_SCOPE, _LOCAL),
        0,
    )
    content += attribute(_DESTINATION, parsed.network_address.packed)
    content += attribute(_LINK, struct.pack("=I", _LOOPBACK))
    return struct.pack("=IHHII", 16 + len(content), _NEW_ROUTE, _FLAGS, 1, 0) + content
