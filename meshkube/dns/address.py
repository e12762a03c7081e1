"""The address on which cluster DNS answers: on `lo` of every node, for pods and host alike."""

from __future__ import annotations

import ipaddress
import json
import subprocess


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
