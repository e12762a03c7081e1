"""The address on which cluster DNS answers: on `lo` of every node, for pods and host alike."""

from __future__ import annotations

import ipaddress
import subprocess

_THERE = "File exists"
_GONE = "Cannot assign requested address"


def ensure(address: str) -> None:
    """Puts the address on `lo` where it is not there yet; loopback addresses need nothing.
    Raises `OSError` where this process may not. Blocks for some milliseconds."""
    _change("add", address, _THERE)


def teardown(address: str) -> bool:
    """Takes the address away again; False where it is gone already."""
    return _change("del", address, _GONE)


def _change(verb: str, address: str, fine: str) -> bool:
    if ipaddress.ip_address(address).is_loopback:
        return False
    command = ["ip", "address", verb, f"{address}/32", "dev", "lo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return True
    reason = done.stderr.strip()
    if fine in reason:
        return False
    raise OSError(f"{' '.join(command)}: {reason}")
