"""Addresses of Services: cluster addresses, external ones, those of load balancers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
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
from meshkube.api.validation.selectors import optional_one_of

_FAMILIES: Final = ("IPv4", "IPv6")
_FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
_ONCE: Final = "may not change once set"
_MULTICAST_4: Final = ipaddress.ip_network("224.0.0.0/24")
_MULTICAST_6: Final = ipaddress.ip_network("ff02::/16")


def is_headless(spec: Object) -> bool:
    """A Service without an address of its own."""
    return (spec.get("clusterIPs") or [spec.get("clusterIP")]) == ["None"]


def endpoint_ip(path: str, address: str) -> Faults:
    """An address that traffic may be sent to: no loopback, no link-local."""
    parsed = formats.ip_address(address)
    if parsed is None:
        return [invalid(path, address, "must be a valid IP address")]
    ranges = (
        (parsed.is_unspecified, f"may not be unspecified ({address})"),
        (parsed.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (
            parsed.is_link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            parsed in (_MULTICAST_4 if parsed.version == 4 else _MULTICAST_6),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    )
    return [invalid(path, address, detail) for inside, detail in ranges if inside]


def validate_cluster_ips(spec: Object, before: Object) -> Faults:
    """Form and families of the addresses; those that the old Service had are let be."""
    if spec.get("type") == "ExternalName":
        return []
    path = "spec.clusterIPs"
    first, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    faults: Faults = []
    if first and not addresses:
        faults.append(required(path))
    elif first and addresses[0] != first:
        detail = "first value must match `clusterIP`"
        faults.append(invalid(path, go_strings(addresses), detail))
    elif addresses and not first:
        detail = "must be empty when `clusterIP` is not specified"
        faults.append(invalid(path, go_strings(addresses), detail))
    faults += _families(spec)
    unreadable = _addresses(addresses, path, before.get("clusterIPs") or ())
    if len(addresses) > 2:
        detail = "may only hold up to 2 values"
        unreadable.append(invalid(path, go_strings(addresses), detail))
    if unreadable:
        return faults + unreadable
    if len(addresses) > 1 and len({_family(each) for each in addresses}) == 1:
        detail = "may specify no more than one IP for each IP family"
        faults.append(invalid(path, go_strings(addresses), detail))
    return faults + _families_match(spec, addresses, path)


def _addresses(addresses: list[str], path: str, known: Sequence[str]) -> Faults:
    faults: Faults = []
    for index, address in enumerate(addresses):
        if index == 0 and address == "None":
            if len(addresses) > 1:
                detail = "'None' must be the first and only value"
                faults.append(invalid(path, go_strings(addresses), detail))
        elif address not in known:
            faults += formats.faults(item(path, index), address, formats.ip(address))
    return faults


def _families(spec: Object) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        place = item("spec.ipFamilies", index)
        if family not in _FAMILIES:
            faults.append(not_supported(place, family, _FAMILIES))
        if family in seen:
            faults.append(duplicate(place, family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    return faults + optional_one_of("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)


def _family(address: str) -> str:
    parsed = formats.ip_address(address)
    return f"IPv{parsed.version}" if parsed else ""


def _families_match(spec: Object, addresses: list[str], path: str) -> Faults:
    if addresses == ["None"]:
        return []
    pairs = zip(addresses, spec.get("ipFamilies") or (), strict=False)
    return [
        invalid(
            item(path, index),
            address,
            f"expected an {family} value as indicated by `ipFamilies[{index}]`",
        )
        for index, (address, family) in enumerate(pairs)
        if family in _FAMILIES and _family(address) != family
    ]


def validate_cluster_ips_update(spec: Object, before: Object) -> Faults:
    """The first address stays for good; the second may come and go."""
    if is_headless(spec) and is_headless(before):
        return []
    now, was = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    path, shown = "spec.clusterIPs", _ips_shown(spec)
    if len(now) == len(was):
        return [
            invalid(item(path, index), shown, _ONCE)
            for index in range(len(was))
            if now[index] != was[index]
        ]
    faults: Faults = []
    if not now:
        faults.append(invalid(item(path, 0), shown, "primary clusterIP can not be unset"))
    elif was and now[0] != was[0]:
        faults.append(invalid(item(path, 0), shown, _ONCE))
    if len(was) > len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        faults.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    return faults


def validate_families_update(spec: Object, before: Object) -> Faults:
    """The first family stays for good, as the first address does."""
    if is_headless(spec) or is_headless(before):
        return []
    now, was = spec.get("ipFamilies") or [], before.get("ipFamilies") or []
    path = "spec.ipFamilies[0]"
    if len(now) == len(was):
        changed = [one for one, other in zip(now, was, strict=True) if one != other]
        return [invalid(path, _families_shown(spec), _ONCE) for _ in changed]
    faults: Faults = []
    if len(now) < len(was) and not spec.get("clusterIPs"):
        detail = "primary ipFamily can not be unset"
        faults.append(invalid(path, _families_shown(spec), detail))
    if now and was and now[0] != was[0]:
        faults.append(invalid(path, _ips_shown(spec), _ONCE))
    if len(was) > len(now) == 1 and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        faults.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    return faults


def _ips_shown(spec: Object) -> Shown:
    addresses = spec.get("clusterIPs")
    return Shown("[]string(nil)") if addresses is None else go_strings(addresses)


def _families_shown(spec: Object) -> Shown:
    families = spec.get("ipFamilies")
    if families is None:
        return Shown("[]core.IPFamily(nil)")
    return Shown("[]core.IPFamily{" + ", ".join(map(quoted, families)) + "}")


def validate_external_ips(spec: Object, before: Object) -> Faults:
    """Addresses outside the cluster at which the Service answers too."""
    faults: Faults = []
    known = before.get("externalIPs") or ()
    for index, address in enumerate(spec.get("externalIPs") or ()):
        place = item("spec.externalIPs", index)
        reasons = [] if address in known else formats.ip(address)
        faults += formats.faults(place, address, reasons)
        if not reasons:
            faults += endpoint_ip(place, address)
    return faults


def validate_load_balancer_status(status: Object, path: str, *, modes: bool) -> Faults:
    """Addresses in the status of a Service (`modes`: with `ipMode`) or of an Ingress."""
    faults: Faults = []
    for index, entry in enumerate(status.get("ingress") or ()):
        place = item(child(path, "ingress"), index)
        address, name = entry.get("ip") or "", entry.get("hostname") or ""
        if address:
            faults += formats.faults(child(place, "ip"), address, formats.ip(address))
        mode = entry.get("ipMode")
        if modes and mode is None and address:
            faults.append(required(child(place, "ipMode"), "must be specified when `ip` is set"))
        elif modes and mode is not None and not address:
            detail = "may not be specified when `ip` is not set"
            faults.append(forbidden(child(place, "ipMode"), detail))
        elif modes:
            faults += optional_one_of(child(place, "ipMode"), mode, ("Proxy", "VIP"))
        if name:
            faults += formats.faults(child(place, "hostname"), name, formats.dns_subdomain(name))
            if formats.ip_address(name) is not None:
                detail = "must be a DNS name, not an IP address"
                faults.append(invalid(child(place, "hostname"), name, detail))
    return faults
