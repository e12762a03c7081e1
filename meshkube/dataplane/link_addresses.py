"""LoadBalancer addresses on this host's links: put there, announced, asked for, taken away.

Blocking: for a thread. An address of ours carries the label `<link>:mk` (IPv4) or lasts "forever,
deprecated" (IPv6: nothing of the host's own goes out from it), and is alone in its range.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import select
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from meshkube.dataplane import arp, host
from meshkube.dataplane.services import family_of

MARK = ":mk"
_PROBE_WAIT = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """An address of ours and the link that it is on."""

    address: str
    link: str
    mac: bytes


def held() -> dict[str, Place]:
    """Address -> where it is, of those that are ours."""
    return {
        entry["local"]: Place(entry["local"], link["ifname"], _mac(link))
        for link in _links()
        for entry in link.get("addr_info", ())
        if _is_ours(entry)
    }


def add(address: str, node_ip: str) -> Place:
    """Puts it on the link whose range holds it, else on that of the node's address. Raises
    `HostError` where there is no such link."""
    link = _link_for(address, node_ip)
    name, bits = str(link["ifname"]), ipaddress.ip_address(address).max_prefixlen
    marked = ["label", f"{name}{MARK}"] if family_of(address) == 4 else ["preferred_lft", "0"]
    if len(name) + len(MARK) > 15:
        marked = []
    host.run("ip", "address", "replace", f"{address}/{bits}", "dev", name, *marked)
    return Place(address, name, _mac(link))


def remove(place: Place) -> None:
    """It may be gone already."""
    bits = ipaddress.ip_address(place.address).max_prefixlen
    host.run("ip", "address", "del", f"{place.address}/{bits}", "dev", place.link, check=False)


def announce(place: Place) -> None:
    """Tells everybody on the link that the address is here. Raises `OSError`."""
    if family_of(place.address) == 6:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as link:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            index = socket.if_nametoindex(place.link)
            link.sendto(arp.advertisement(place.mac, place.address), ("ff02::1", 0, 0, index))
        return
    with _raw(place.link) as link:
        link.send(arp.gratuitous(place.mac, place.address))


def contested(places: Iterable[Place]) -> set[str]:
    """Those IPv4 addresses that another host on the link says to have. Raises `OSError`."""
    by_link: dict[str, list[Place]] = {}
    for place in places:
        if family_of(place.address) == 4:
            by_link.setdefault(place.link, []).append(place)
    found: set[str] = set()
    for name, asked in by_link.items():
        with _raw(name) as link:
            for place in asked:
                link.send(arp.probe(place.mac, place.address))
            found |= {
                address
                for mac, address in _claims(link)
                for place in asked
                if address == place.address and mac != place.mac
            }
    return found


def teardown() -> list[str]:
    """Takes all of ours away. Returns what it removed."""
    gone = list(held().values())
    for place in gone:
        remove(place)
    return [f"address {place.address}" for place in gone]


def _claims(link: socket.socket) -> Iterator[tuple[bytes, str]]:
    until = time.monotonic() + _PROBE_WAIT
    while (left := until - time.monotonic()) > 0:
        if select.select([link], [], [], left)[0]:
            with contextlib.suppress(BlockingIOError):
                claim = arp.claim(link.recv(2048))
                if claim is not None:
                    yield claim


def _raw(link: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp.ETHERNET_ARP))
    made.bind((link, arp.ETHERNET_ARP))
    made.setblocking(False)
    return made


def _links() -> list[dict[str, Any]]:
    shown = host.run("ip", "-json", "address", "show", check=False)
    return list(json.loads(shown)) if shown.strip() else []


def _is_ours(entry: dict[str, Any]) -> bool:
    if entry.get("family") == "inet":
        return str(entry.get("label", "")).endswith(MARK)
    alone = entry.get("prefixlen") == 128 and entry.get("scope") == "global"
    return alone and bool(entry.get("deprecated")) and entry.get("preferred_life_time") == 0


def _mac(link: dict[str, Any]) -> bytes:
    text = str(link.get("address", ""))
    return bytes.fromhex(text.replace(":", "")) if text.count(":") == 5 else bytes(6)


def _link_for(address: str, node_ip: str) -> dict[str, Any]:
    wanted = ipaddress.ip_address(address)
    own = None
    for link in _links():
        for entry in link.get("addr_info", ()):
            if "local" not in entry or link["ifname"] == "lo":
                continue
            network = ipaddress.ip_network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
            if not _is_ours(entry) and wanted in network and network.num_addresses > 1:
                return link
            if entry["local"] == node_ip:
                own = link
    if own is None:
        raise host.HostError(f"no link of this host can have the address {address}")
    return own
