"""Endpoints and EndpointSlices."""

from __future__ import annotations

from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.addresses import endpoint_ip
from meshkube.api.validation.containers import PROTOCOLS
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    child,
    duplicate,
    invalid,
    item,
    required,
    too_many,
)
from meshkube.api.validation.metadata import validate_labels
from meshkube.api.validation.selectors import label_key, one_of

_ADDRESS_TYPES: Final = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS: Final = 1000
_MAX_ADDRESSES: Final = 100
_MAX_PORTS: Final = 20000
_MAX_HINTS: Final = 8
_MAX_TOPOLOGY: Final = 16


def validate_endpoints(endpoints: Object) -> Faults:
    faults: Faults = []
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        faults += _subset(subset, item("subsets", index))
    return faults


def _subset(subset: Object, path: str) -> Faults:
    faults: Faults = []
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        faults.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for field in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(field) or ()):
            faults += _address(address, item(child(path, field), index))
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        place = item(child(path, "ports"), index)
        faults += _port(port, place, named=len(ports) > 1)
    return faults


def _address(address: Object, path: str) -> Faults:
    ip = address.get("ip") or ""
    faults = list(formats.faults(child(path, "ip"), ip, formats.ip(ip)))
    faults += _host_and_node(address, path) + endpoint_ip(child(path, "ip"), ip)
    return faults


def _host_and_node(address: Object, path: str) -> Faults:
    host, node = address.get("hostname"), address.get("nodeName")
    faults: Faults = []
    if host:
        faults += formats.faults(child(path, "hostname"), host, formats.dns_label(host))
    if node is not None:
        faults += formats.faults(child(path, "nodeName"), node, formats.dns_subdomain(node))
    return faults


def _port(port: Object, path: str, *, named: bool) -> Faults:
    faults: Faults = []
    name, number = port.get("name") or "", port.get("port") or 0
    if name:
        faults += formats.faults(child(path, "name"), name, formats.dns_label(name))
    elif named:
        faults.append(required(child(path, "name")))
    where = child(path, "port")
    faults += [invalid(where, number, why) for why in formats.port_number(number)]
    faults += one_of(child(path, "protocol"), port.get("protocol"), PROTOCOLS)
    if port.get("appProtocol") is not None:
        faults += label_key(child(path, "appProtocol"), port["appProtocol"])
    return faults


def validate_slice(slice_: Object) -> Faults:
    kind = slice_.get("addressType") or ""
    faults = one_of("addressType", kind, _ADDRESS_TYPES)
    faults += _slice_ports(slice_.get("ports") or [])
    endpoints = slice_.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        return [*faults, too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)]
    for index, endpoint in enumerate(endpoints):
        faults += _endpoint(endpoint, kind, item("endpoints", index))
    return faults


def validate_slice_update(slice_: Object, old: Object) -> Faults:
    kind, faults = slice_.get("addressType") or "", validate_slice(slice_)
    if kind != (old.get("addressType") or ""):
        faults.append(invalid("addressType", kind, IMMUTABLE))
    return faults


def _slice_ports(ports: list[Object]) -> Faults:
    if len(ports) > _MAX_PORTS:
        return [too_many("ports", len(ports), _MAX_PORTS)]
    faults: Faults = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        place, name = item("ports", index), port.get("name") or ""
        if name:
            faults += formats.faults(child(place, "name"), name, formats.dns_label(name))
        if name in names:
            faults.append(duplicate(child(place, "name"), name))
        names.add(name)
        faults += one_of(child(place, "protocol"), port.get("protocol"), PROTOCOLS)
        if port.get("appProtocol") is not None:
            faults += label_key(child(place, "appProtocol"), port["appProtocol"])
    return faults


def _endpoint(endpoint: Object, kind: str, path: str) -> Faults:
    addresses, place = endpoint.get("addresses") or [], child(path, "addresses")
    faults: Faults = []
    if not addresses:
        faults.append(required(place, "must contain at least 1 address"))
    elif len(addresses) > _MAX_ADDRESSES:
        faults.append(too_many(place, len(addresses), _MAX_ADDRESSES))
    for index, address in enumerate(addresses):
        faults += _slice_address(address, kind, place, item(place, index))
    node = endpoint.get("nodeName")
    if node is not None:
        faults += formats.faults(child(path, "nodeName"), node, formats.dns_subdomain(node))
    topology = endpoint.get("deprecatedTopology") or {}
    where = child(path, "deprecatedTopology")
    if len(topology) > _MAX_TOPOLOGY:
        faults.append(too_many(where, len(topology), _MAX_TOPOLOGY))
    faults += validate_labels(topology, where)
    host = endpoint.get("hostname")
    if host is not None:
        faults += formats.faults(child(path, "hostname"), host, formats.dns_label(host))
    return faults + _hints(endpoint.get("hints") or {}, child(path, "hints"))


def _slice_address(address: str, kind: str, all_path: str, path: str) -> Faults:
    if kind == "FQDN":
        return list(_full_name(path, address))
    if kind not in ("IPv4", "IPv6"):
        return []
    reasons = formats.ip(address) if kind == "IPv4" else formats.strict_ip(address)
    if reasons:
        return list(formats.faults(path, address, reasons))
    faults: Faults = []
    parsed = formats.ip_address(address)
    if parsed is not None and f"IPv{parsed.version}" != kind:
        faults.append(invalid(all_path, address, f"must be an {kind} address"))
    return faults + endpoint_ip(path, address)


def _full_name(path: str, name: str) -> Faults:
    bare = name.removesuffix(".")
    if not name:
        return [required(path)]
    faults = list(formats.faults(path, bare, formats.dns_subdomain(bare)))
    if not faults and "." not in bare:
        detail = "should be a domain with at least two segments separated by dots"
        faults.append(invalid(path, bare, detail))
    return faults


def _hints(hints: Object, path: str) -> Faults:
    faults: Faults = []
    for field, check in (("forZones", formats.label_value), ("forNodes", formats.dns_subdomain)):
        place, entries = child(path, field), hints.get(field) or []
        if len(entries) > _MAX_HINTS:
            return [*faults, too_many(place, len(entries), _MAX_HINTS)]
        names: set[str] = set()
        for index, entry in enumerate(entries):
            where, name = child(item(place, index), "name"), entry.get("name") or ""
            if name in names:
                faults.append(duplicate(where, name))
            names.add(name)
            faults += formats.faults(where, name, check(name))
    return faults
