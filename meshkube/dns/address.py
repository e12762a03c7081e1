"""The address on which cluster DNS answers: on `lo` of every node, for pods and host alike."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from typing import Protocol

from meshkube import handover


class Place(Protocol):
    """Where a server listens."""

    def opened(self) -> tuple[socket.socket, socket.socket]:
        """A UDP and a TCP socket, bound. Blocks. Raises `OSError`."""
        ...

    @property
    def lost(self) -> bool:
        """Whether what was opened reaches nobody any more."""
        ...


class OwnPlace:
    """An address of this host."""

    lost = False

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port

    def opened(self) -> tuple[socket.socket, socket.socket]:
        ensure(self._address)
        udp = handover.udp(self._address, self._port)
        try:
            (tcp,) = handover.tcp(self._address, self._port)
        except OSError:
            udp.close()
            raise
        return udp, tcp


def ensure(address: str) -> None:
    """Puts the address on `lo` where it is not there yet; loopback addresses need nothing.
    Raises `OSError` where this process may not. Blocks for some milliseconds."""
    if not ipaddress.ip_address(address).is_loopback:
        _ip("address", "replace", f"{address}/32", "dev", "lo")


def teardown(address: str) -> bool:
    """Takes the address away again; False where it is gone already."""
    if ipaddress.ip_address(address).is_loopback or address not in _addresses():
        return False
    _ip("address", "delete", f"{address}/32", "dev", "lo")
    return True


def _addresses() -> set[str]:
    links = json.loads(_ip("-json", "address", "show", "dev", "lo"))
    return {entry["local"] for link in links for entry in link.get("addr_info", ())}


def _ip(*arguments: str) -> str:
    command = ["ip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
