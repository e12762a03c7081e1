"""The address on which cluster DNS answers: on `lo` of every node, for pods and host alike."""

from __future__ import annotations

import errno
import ipaddress

from pyroute2 import IPRoute, NetlinkError  # type: ignore[attr-defined]


def ensure(address: str) -> None:
    """Puts the address on `lo` where it is not there yet; loopback addresses need nothing.
    Raises `OSError` where this process may not."""
    _change("add", address, errno.EEXIST)


def teardown(address: str) -> None:
    """Takes the address away again; does nothing where it is gone."""
    _change("del", address, errno.EADDRNOTAVAIL)


def _change(verb: str, address: str, fine: int) -> None:
    if ipaddress.ip_address(address).is_loopback:
        return
    with IPRoute() as netlink:  # type: ignore[no-untyped-call]
        (link,) = netlink.link_lookup(ifname="lo")
        try:
            netlink.addr(verb, index=link, address=address, prefixlen=32)
        except NetlinkError as error:
            if error.code != fine:
                reason = f"{verb} {address} on lo: {error}"
                raise OSError(error.code, reason) from None
