"""The pod network in this host's kernel: reads what is there of ours, and makes it as planned.

Blocking, and by pyroute2 with an event loop of its own: for a thread. pyroute2 is imported when it
is first needed (13 MB and 0.4 s): a node alone never does. See docs/dataplane.md.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshkube.dataplane import host
from meshkube.dataplane.network_plan import (
    DEVICE,
    MAIN_TABLE,
    POD_TABLE,
    PORT,
    ROUTE_PROTOCOL,
    VNI,
    Forward,
    Hop,
    Neighbor,
    Plan,
    Route,
    Rule,
    Tunnel,
)
from meshkube.dataplane.services import family_of

if TYPE_CHECKING:
    from pyroute2 import IPRoute

_ONLINK = 4
_LOCAL_ROUTE = 2
_ETHERNET = 1
_NO_ARP = 0x80
_PERMANENT = 0x80
_PRIORITY = 5078
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class NetworkError(RuntimeError):
    """The kernel refused a step; the message says which."""


def is_there() -> bool:
    """Whether anything of ours may be on this host. Needs no pyroute2."""
    with contextlib.suppress(OSError):
        return bool(socket.if_nametoindex(DEVICE))
    shown = ("route", "show", "table", "all", "proto", str(ROUTE_PROTOCOL))
    return any(host.run("ip", version, *shown, check=False).strip() for version in ("-4", "-6"))


def link_mtu(address: str) -> int:
    """The MTU of the link that has this address; 1500 where none has. Needs no pyroute2."""
    found = host.run("ip", "-oneline", "address", "show", "to", address, check=False).split()
    if len(found) < 2:
        return 1500
    shown = host.run("ip", "-oneline", "link", "show", found[1].partition("@")[0]).split()
    return int(shown[shown.index("mtu") + 1])


def hops(addresses: Iterable[str]) -> dict[str, Hop]:
    """How this host reaches each; those that it does not are left out."""
    with _netlink() as ip:
        links = {link["index"]: link for link in ip.get_links()}
        return {address: hop for address in addresses if (hop := _hop(ip, links, address))}


def apply(plan: Plan) -> list[str]:
    """Makes the kernel as planned. Returns what it changed, a few words each."""
    with _netlink() as ip:
        return list(_Change(ip, plan).steps())


def teardown() -> list[str]:
    """Removes all of it. Returns what it removed."""
    if not is_there():
        return []
    with ThreadPoolExecutor(1) as thread:
        try:
            steps = thread.submit(apply, Plan()).result()
        except NetworkError as error:
            return [f"nothing of the pod network: {error}"]
    return [step.removeprefix("remove ") for step in steps]


@contextlib.contextmanager
def _netlink() -> Iterator[IPRoute]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ip:
            yield ip
    except (NetlinkError, OSError) as error:
        raise NetworkError(f"routing netlink: {error}") from error


def _hop(ip: IPRoute, links: dict[int, Any], address: str) -> Hop | None:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        found = next(iter(ip.route("get", dst=address, family=_family(address))))
    except (NetlinkError, StopIteration):
        return None
    link = links.get(found.get("RTA_OIF"))
    if link is None:
        return None
    metrics = found.get("RTA_METRICS")
    return Hop(
        link=link.get("IFLA_IFNAME"),
        gateway=found.get("RTA_GATEWAY") or "",
        source=found.get("RTA_PREFSRC") or "",
        mtu=(metrics.get("RTAX_MTU") if metrics else None) or link.get("IFLA_MTU"),
        ethernet=link["ifi_type"] == _ETHERNET and not link["flags"] & _NO_ARP,
        local=found["type"] == _LOCAL_ROUTE,
    )


class _Change:
    """One run over all of it: what is missing is added before what is too much is removed."""

    def __init__(self, ip: IPRoute, plan: Plan) -> None:
        self._ip = ip
        self._plan = plan
        self._index: int | None = None

    def steps(self) -> Iterator[str]:
        yield from self._device()
        if self._plan.tunnel is not None:
            yield from self._addresses()
            yield from self._neighbors()
            yield from self._forwards()
        yield from self._routes()
        yield from self._rules()
        if self._plan.tunnel is None and self._index is not None:
            self._do("remove device", self._ip.link, "del", index=self._index)
            yield f"remove device {DEVICE}"

    def _do(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            call(*arguments, **named)
        except NetlinkError as error:
            raise NetworkError(f"{what}: {error}") from error

    def _device(self) -> Iterator[str]:
        found = self._ip.link_lookup(ifname=DEVICE)
        self._index = found[0] if found else None
        wanted = self._plan.tunnel
        if wanted is None:
            return
        if self._index is not None and self._fixed() != (VNI, PORT, wanted.local, 0):
            self._do("remove device", self._ip.link, "del", index=self._index)
            self._index = None
            yield f"remove device {DEVICE} of another kind"
        if self._index is None:
            self._make(wanted)
            yield f"add device {DEVICE}"
            self._index = self._ip.link_lookup(ifname=DEVICE)[0]
        link = self._link()
        now = (link.get("IFLA_ADDRESS"), link.get("IFLA_MTU"), link["state"])
        if now != (wanted.mac, wanted.mtu, "up"):
            settings = {"address": wanted.mac, "mtu": wanted.mtu, "state": "up"}
            self._do("set device", self._ip.link, "set", index=self._index, **settings)
            yield f"set device {DEVICE} {wanted.mac} mtu {wanted.mtu}"
        # The answer of a host with several links may come back by another of them.
        host.write(Path(f"/proc/sys/net/ipv4/conf/{DEVICE}/rp_filter"), "2")

    def _make(self, wanted: Tunnel) -> None:
        given: dict[str, Any] = {
            "kind": "vxlan",
            "vxlan_id": VNI,
            "vxlan_port": PORT,
            "vxlan_learning": False,
            "address": wanted.mac,
            "mtu": wanted.mtu,
        }
        if wanted.local:
            given["vxlan_local6" if family_of(wanted.local) == 6 else "vxlan_local"] = wanted.local
        self._do("make a VXLAN device", self._ip.link, "add", ifname=DEVICE, **given)
        # No link-local address: it would ask the others for theirs, and nobody is flooded.
        path = Path(f"/proc/sys/net/ipv6/conf/{DEVICE}/addr_gen_mode")
        if path.exists():
            host.write(path, "1")

    def _link(self) -> Any:
        return next(iter(self._ip.get_links(self._index)))

    def _fixed(self) -> tuple[Any, ...] | None:
        """What cannot be changed once the device is there."""
        info = self._link().get("IFLA_LINKINFO")
        data = info.get("IFLA_INFO_DATA") if info else None
        if data is None:
            return None
        local = data.get("IFLA_VXLAN_LOCAL") or data.get("IFLA_VXLAN_LOCAL6") or ""
        learning = data.get("IFLA_VXLAN_LEARNING")
        return data.get("IFLA_VXLAN_ID"), data.get("IFLA_VXLAN_PORT"), local, learning

    def _addresses(self) -> Iterator[str]:
        wanted = set(self._plan.tunnel.addresses) if self._plan.tunnel else set()
        held = {
            entry.get("IFA_ADDRESS"): entry["prefixlen"]
            for entry in self._ip.get_addr(index=self._index)
        }
        single = {address for address, length in held.items() if length == _bits(address)}
        for address in sorted(wanted - single):
            given = {"index": self._index, "address": address, "prefixlen": _bits(address)}
            self._do("add address", self._ip.addr, "add", **given)
            yield f"add address {address}"
        for address in sorted(held.keys() - wanted):
            given = {"index": self._index, "address": address, "prefixlen": held[address]}
            self._do("remove address", self._ip.addr, "del", **given)
            yield f"remove address {address}"

    def _neighbors(self) -> Iterator[str]:
        held = {
            Neighbor(entry.get("NDA_DST"), entry.get("NDA_LLADDR"))
            for family in _FAMILIES
            for entry in self._ip.get_neighbours(family=family, ifindex=self._index)
            if entry["state"] & _PERMANENT
        }
        for address, mac in sorted(self._plan.neighbors - held):
            given = {"ifindex": self._index, "dst": address, "lladdr": mac, "state": "permanent"}
            self._do("add neighbor", self._ip.neigh, "replace", family=_family(address), **given)
            yield f"add neighbor {address}"
        known = {neighbor.address for neighbor in self._plan.neighbors}
        for address, _ in sorted(held - self._plan.neighbors):
            if address not in known:
                given = {"ifindex": self._index, "dst": address}
                self._do("remove neighbor", self._ip.neigh, "del", family=_family(address), **given)
                yield f"remove neighbor {address}"

    def _forwards(self) -> Iterator[str]:
        held = {
            Forward(entry.get("NDA_LLADDR"), entry.get("NDA_DST"))
            for entry in self._ip.fdb("dump", ifindex=self._index)
            if entry["ifindex"] == self._index and entry.get("NDA_DST")
        }
        for mac, at in sorted(held - self._plan.forwards):
            self._do("remove", self._ip.fdb, "del", ifindex=self._index, lladdr=mac, dst=at)
            yield f"remove forward {mac} {at}"
        for mac, at in sorted(self._plan.forwards - held):
            self._do("add", self._ip.fdb, "append", ifindex=self._index, lladdr=mac, dst=at)
            yield f"add forward {mac} {at}"

    def _routes(self) -> Iterator[str]:
        names = {link["index"]: link.get("IFLA_IFNAME") for link in self._ip.get_links()}
        indexes = {name: index for index, name in names.items()}
        held = set(self._held_routes(names))
        places = {(route.table, route.destination) for route in held}
        for route in sorted(self._plan.routes - held):
            known = (route.table, route.destination) in places
            self._add_route(route, indexes, "replace" if known else "add")
            yield f"add route {route.destination} via {route.via} dev {route.link}"
        wanted = {(route.table, route.destination) for route in self._plan.routes}
        for table, destination in sorted(places - wanted):
            given = {"dst": destination, "table": table, "proto": ROUTE_PROTOCOL}
            self._do(
                f"remove route {destination}",
                self._ip.route,
                "del",
                family=_family(destination),
                **given,
            )
            yield f"remove route {destination}"

    def _held_routes(self, names: dict[int, str]) -> Iterator[Route]:
        for family in _FAMILIES:
            for found in self._ip.get_routes(family=family, proto=ROUTE_PROTOCOL):
                table = found.get("RTA_TABLE")
                if table in (MAIN_TABLE, POD_TABLE):
                    yield Route(
                        table,
                        f"{found.get('RTA_DST')}/{found['dst_len']}",
                        found.get("RTA_GATEWAY") or "",
                        names.get(found.get("RTA_OIF"), ""),
                        found.get("RTA_PREFSRC") or "",
                    )

    def _add_route(self, route: Route, indexes: dict[str, int], how: str) -> None:
        given = {
            "table": route.table,
            "dst": route.destination,
            "gateway": route.via,
            "oif": indexes.get(route.link),
            "proto": ROUTE_PROTOCOL,
            "family": _family(route.destination),
            "flags": _ONLINK,
        }
        if route.source:
            given["prefsrc"] = route.source
        what = f"route {route.destination} via {route.via} dev {route.link}"
        try:
            self._do(what, self._ip.route, how, **given)
        except NetworkError as error:
            if "File exists" in str(error):
                raise NetworkError(
                    f"{what}: another route to it is there, and not ours"
                    f" (see `ip route show {route.destination}`)"
                ) from None
            raise

    def _rules(self) -> Iterator[str]:
        held = {
            Rule(f"{found.get('FRA_SRC')}/{found['src_len']}", found.get("FRA_TABLE"))
            for family in _FAMILIES
            for found in self._ip.get_rules(family=family)
            if found.get("FRA_PRIORITY") == _PRIORITY and found.get("FRA_SRC")
        }
        for verb, rules in (("add", self._plan.rules - held), ("del", held - self._plan.rules)):
            for source, table in sorted(rules):
                given = {"src": source, "table": table, "priority": _PRIORITY}
                self._do(
                    f"{verb} rule",
                    self._ip.rule,
                    verb,
                    family=_family(source),
                    protocol=ROUTE_PROTOCOL,
                    **given,
                )
                yield f"{'remove' if verb == 'del' else 'add'} rule from {source}"


def _bits(address: str) -> int:
    return ipaddress.ip_address(address).max_prefixlen


def _family(address: str) -> int:
    return socket.AF_INET6 if family_of(address) == 6 else socket.AF_INET
