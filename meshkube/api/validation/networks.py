"""NetworkPolicies, addresses of Services as objects, and RuntimeClasses."""

from __future__ import annotations

import ipaddress
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    Shown,
    child,
    duplicate,
    forbidden,
    go_strings,
    invalid,
    item,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.metadata import validate_labels
from meshkube.api.validation.resources import validate_resources
from meshkube.api.validation.scheduling import validate_tolerations
from meshkube.api.validation.selectors import validate_label_selector

_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_TYPES: Final = ("Ingress", "Egress")


def validate_network_policy(policy: Object) -> Faults:
    spec = policy.get("spec") or {}
    faults = validate_label_selector(spec.get("podSelector"), "spec.podSelector")
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(side) or ()):
            path = item(f"spec.{side}", index)
            for place, port in enumerate(rule.get("ports") or ()):
                faults += _port(port, item(child(path, "ports"), place))
            for place, peer in enumerate(rule.get(peers) or ()):
                faults += _peer(peer, item(child(path, peers), place))
    types = spec.get("policyTypes") or []
    if len(types) > len(_TYPES):
        shown = Shown("[]networking.PolicyType{" + ", ".join(map(quoted, types)) + "}")
        return [
            *faults,
            invalid("spec.policyTypes", shown, "may not specify more than two policyTypes"),
        ]
    return faults + [
        not_supported(item("spec.policyTypes", index), type_, _TYPES)
        for index, type_ in enumerate(types)
        if type_ not in _TYPES
    ]


def _port(port: Object, path: str) -> Faults:
    faults: Faults = []
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        faults.append(not_supported(child(path, "protocol"), protocol, _PROTOCOLS))
    place, last = child(path, "port"), child(path, "endPort")
    if isinstance(number, str):
        if end is not None:
            detail = "may not be specified when `port` is non-numeric"
            faults.append(invalid(last, end, detail))
        return faults + list(formats.faults(place, number, formats.port_name(number)))
    if number is None:
        if end is not None:
            detail = "may not be specified when `port` is not specified"
            faults.append(invalid(last, end, detail))
        return faults
    faults += [invalid(place, number, why) for why in formats.port_number(number)]
    if end is not None:
        if end < number:
            faults.append(invalid(last, number, "must be greater than or equal to `port`"))
        faults += [invalid(last, end, why) for why in formats.port_number(end)]
    return faults


def _peer(peer: Object, path: str) -> Faults:
    faults: Faults = []
    given = [name for name in ("podSelector", "namespaceSelector") if peer.get(name) is not None]
    for name in given:
        faults += validate_label_selector(peer[name], child(path, name))
    block = peer.get("ipBlock")
    if block is not None:
        faults += _block(block, child(path, "ipBlock"))
        if given:
            faults.append(forbidden(path, "may not specify both ipBlock and another peer"))
    elif not given:
        faults.append(required(path, "must specify a peer"))
    return faults


def _block(block: Object, path: str) -> Faults:
    cidr = block.get("cidr") or ""
    if not cidr:
        return [required(child(path, "cidr"))]
    reasons = formats.cidr(cidr)
    if reasons:
        return list(formats.faults(child(path, "cidr"), cidr, reasons))
    faults: Faults = []
    whole = ipaddress.ip_network(cidr, strict=False)
    for index, each in enumerate(block.get("except") or ()):
        place = item(child(path, "except"), index)
        reasons = formats.cidr(each)
        faults += formats.faults(place, each, reasons)
        if not reasons and not _inside(ipaddress.ip_network(each, strict=False), whole):
            faults.append(invalid(place, each, "must be a strict subset of `cidr`"))
    return faults


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _inside(part: Network, whole: Network) -> bool:
    same = part.version == whole.version and part.network_address in whole
    return same and part.prefixlen > whole.prefixlen


def validate_ip_address(address: Object) -> Faults:
    parent, path = (address.get("spec") or {}).get("parentRef"), "spec.parentRef"
    if parent is None:
        return [required(path)]
    group = parent.get("group") or ""
    faults: Faults = []
    if group:
        faults += formats.faults(child(path, "group"), group, formats.dns_subdomain(group))
    for field in ("resource", "name", "namespace"):
        value, place = parent.get(field) or "", child(path, field)
        if value:
            faults += formats.faults(place, value, formats.path_segment(value))
        elif field != "namespace":
            faults.append(required(place))
    return faults


def validate_ip_address_update(address: Object, old: Object) -> Faults:
    now, was = ((each.get("spec") or {}).get("parentRef") for each in (address, old))
    if now == was:
        return []
    told = None if now is None else Shown("networking.ParentReference")
    return [invalid("spec.parentRef", told, IMMUTABLE)]


def validate_service_cidr(cidr: Object) -> Faults:
    path, given = "spec.cidrs", (cidr.get("spec") or {}).get("cidrs") or []
    if not given:
        return [required(path, "at least one CIDR required")]
    faults: Faults = []
    if len(given) > 2:
        detail = "may only hold up to 2 values"
        shown = Shown(f"networking.ServiceCIDRSpec{{CIDRs:{go_strings(given)}}}")
        return [invalid(path, shown, detail)]
    versions = [":" in each for each in given]
    if len(given) == 2 and versions[0] == versions[1] and not any(map(formats.cidr, given)):
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and"
        faults.append(invalid(path, Shown(go_strings(given)), f"{detail} 2001:db8::/64"))
    for index, each in enumerate(given):
        faults += formats.faults(item(path, index), each, _strict_cidr(each))
    return faults


def _strict_cidr(text: str) -> formats.Reasons:
    reasons = formats.cidr(text)
    if reasons:
        return reasons
    try:
        canonical = str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ["must not have leading 0s"]
    if text.partition("/")[0] != canonical.partition("/")[0]:
        return [f'must not have bits set beyond the prefix length ("{canonical}")']
    return [] if text == canonical else [f'must be in canonical form ("{canonical}")']


def validate_service_cidr_update(cidr: Object, old: Object) -> Faults:
    now, was = ((each.get("spec") or {}).get("cidrs") or [] for each in (cidr, old))
    path = "spec.cidrs"
    if len(now) == len(was):
        pairs = enumerate(zip(now, was, strict=True))
        return [invalid(item(path, i), new, IMMUTABLE) for i, (new, old_) in pairs if new != old_]
    if (len(was), len(now)) == (1, 2):
        faults = [] if now[0] == was[0] else [invalid(item(path, 0), now[0], IMMUTABLE)]
        return faults + validate_service_cidr(cidr)
    return [invalid(path, go_strings(now) if now else Shown("[]string(nil)"), IMMUTABLE)]


def validate_runtime_class(class_: Object) -> Faults:
    handler = class_.get("handler") or ""
    faults = list(formats.faults("handler", handler, formats.dns_label(handler)))
    overhead = class_.get("overhead")
    if overhead is not None:
        fixed = {"limits": overhead.get("podFixed") or {}}
        faults += validate_resources(fixed, "overhead", frozenset())
    scheduling = class_.get("scheduling")
    if scheduling is not None:
        faults += validate_labels(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
        faults += _tolerations(scheduling.get("tolerations") or [], "scheduling.tolerations")
    return faults


def _tolerations(tolerations: list[Object], path: str) -> Faults:
    faults = validate_tolerations(tolerations, child(path, "tolerations"))
    seen: set[tuple[str, ...]] = set()
    for index, each in enumerate(tolerations):
        key = tuple(each.get(field) or "" for field in ("key", "operator", "value", "effect"))
        if key in seen:
            faults.append(duplicate(item(path, index), Shown("core.Toleration")))
        seen.add(key)
    return faults


def validate_runtime_class_update(class_: Object, old: Object) -> Faults:
    faults = validate_runtime_class(class_)
    if class_.get("handler") != old.get("handler"):
        faults.append(invalid("handler", class_.get("handler") or "", IMMUTABLE))
    return faults
