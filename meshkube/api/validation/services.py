"""Services."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.containers import PROTOCOLS
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    at,
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
from meshkube.api.validation.probes import port_or_name
from meshkube.api.validation.selectors import label_key, one_of, optional_one_of

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES: Final = ("Cluster", "Local")
_FAMILIES: Final = ("IPv4", "IPv6")
_FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
_MAX_AFFINITY: Final = 86400
_ONLY_BALANCER: Final = "may only be used when `type` is 'LoadBalancer'"
_ONCE: Final = "may not change once set"
_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"


def validate_service(service: Object, old: Object | None = None) -> Faults:
    """`clusterIP` and `clusterIPs` are already made to agree, where only one was given."""
    spec: Object = service.get("spec") or {}
    kind = spec.get("type") or ""
    faults: Faults = []
    if not spec.get("ports") and not is_headless(spec) and kind != "ExternalName":
        faults.append(required("spec.ports"))
    faults += _by_type(spec, kind) + _ports(spec)
    faults += validate_labels(spec.get("selector") or {}, "spec.selector")
    faults += _session_affinity(spec)
    faults += _cluster_ips(spec, (old or {}).get("spec") or {})
    faults += _external_ips(spec, (old or {}).get("spec") or {})
    faults += one_of("spec.type", kind, _TYPES)
    faults += _node_ports(spec, kind) + _port_duplicates(spec)
    faults += _load_balancer(service, spec, kind)
    faults += _traffic(spec, kind)
    return faults


def validate_service_update(service: Object, old: Object) -> Faults:
    spec, before = service.get("spec") or {}, old.get("spec") or {}
    faults: Faults = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        faults += _cluster_ips_update(spec, before) + _families_update(spec, before)
    balancers = spec.get("type") == before.get("type") == "LoadBalancer"
    if balancers and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        faults.append(invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), _ONCE))
    if _needs_health_check(spec) and _needs_health_check(before):
        port, was = spec.get("healthCheckNodePort") or 0, before.get("healthCheckNodePort") or 0
        if port != was:
            faults.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return faults + validate_service(service, old)


def is_headless(spec: Object) -> bool:
    return (spec.get("clusterIPs") or [spec.get("clusterIP")]) == ["None"]


def _by_type(spec: Object, kind: str) -> Faults:
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        detail = f"may not be set to 'None' for {kind} services"
        return [invalid("spec.clusterIPs[0]", "None", detail)]
    if kind != "ExternalName":
        return []
    faults = [
        forbidden(f"spec.{field}", "may not be set for ExternalName services")
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(field)
    ]
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        return [*faults, required("spec.externalName")]
    return faults + list(formats.faults("spec.externalName", name, formats.dns_subdomain(name)))


def _ports(spec: Object) -> Faults:
    faults: Faults = []
    names: set[str] = set()
    ports = spec.get("ports") or []
    for index, port in enumerate(ports):
        place, name = item("spec.ports", index), port.get("name") or ""
        if name:
            faults += formats.faults(child(place, "name"), name, formats.dns_label(name))
            if name in names:
                faults.append(duplicate(child(place, "name"), name))
            names.add(name)
        elif len(ports) > 1:
            faults.append(required(child(place, "name")))
        number = port.get("port") or 0
        where = child(place, "port")
        faults += [invalid(where, number, why) for why in formats.port_number(number)]
        faults += one_of(child(place, "protocol"), port.get("protocol"), PROTOCOLS)
        faults += port_or_name(child(place, "targetPort"), port.get("targetPort"))
        if port.get("appProtocol") is not None:
            faults += label_key(child(place, "appProtocol"), port["appProtocol"])
    return faults


def _node_ports(spec: Object, kind: str) -> Faults:
    faults: Faults = []
    taken: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports") or ()):
        place, number = child(item("spec.ports", index), "nodePort"), port.get("nodePort") or 0
        if not number:
            continue
        if kind == "ClusterIP":
            faults.append(forbidden(place, "may not be used when `type` is 'ClusterIP'"))
        key = (port.get("protocol") or "", number)
        if key in taken:
            faults.append(duplicate(place, number))
        taken.add(key)
    return faults


def _port_duplicates(spec: Object) -> Faults:
    faults: Faults = []
    taken: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports") or ()):
        key = (port.get("protocol") or "", port.get("port") or 0)
        if key in taken:
            faults.append(duplicate(item("spec.ports", index), _port_shown(*key)))
        taken.add(key)
    return faults


def _port_shown(protocol: str, port: int) -> Shown:
    """As Go prints the struct that holds only these two."""
    return Shown(
        f'core.ServicePort{{Name:"", Protocol:{quoted(protocol)}, AppProtocol:(*string)(nil),'
        f' Port:{port}, TargetPort:intstr.IntOrString{{Type:0, IntVal:0, StrVal:""}}, NodePort:0}}'
    )


def _session_affinity(spec: Object) -> Faults:
    kind, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    faults = one_of("spec.sessionAffinity", kind, ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    if kind == "None" and config is not None:
        faults.append(forbidden(path, "must not be set when session affinity is None"))
    if kind != "ClientIP":
        return faults
    for field in ("", "clientIP", "timeoutSeconds"):
        path = child(path, field) if field else path
        config = config.get(field) if field and config else config
        if config is None:
            return [*faults, required(path, "when session affinity type is ClientIP")]
    seconds: Any = config
    if not 0 < seconds <= _MAX_AFFINITY:
        detail = f"must be greater than 0 and less than {_MAX_AFFINITY}"
        faults.append(invalid(path, seconds, detail))
    return faults


def _cluster_ips(spec: Object, before: Object) -> Faults:
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


_MULTICAST_4: Final = ipaddress.ip_network("224.0.0.0/24")
_MULTICAST_6: Final = ipaddress.ip_network("ff02::/16")


def _external_ips(spec: Object, before: Object) -> Faults:
    faults: Faults = []
    known = before.get("externalIPs") or ()
    for index, address in enumerate(spec.get("externalIPs") or ()):
        place = item("spec.externalIPs", index)
        reasons = [] if address in known else formats.ip(address)
        faults += formats.faults(place, address, reasons)
        if not reasons:
            faults += endpoint_ip(place, address)
    return faults


def _load_balancer(service: Object, spec: Object, kind: str) -> Faults:
    balancer = kind == "LoadBalancer"
    path = "spec.LoadBalancerSourceRanges"
    ranges: list[str] = spec.get("loadBalancerSourceRanges") or []
    note = ((service.get("metadata") or {}).get("annotations") or {}).get(_RANGES)
    faults: Faults = []
    if ranges:
        if not balancer:
            faults.append(forbidden(path, _ONLY_BALANCER))
        for index, value in enumerate(ranges):
            faults += _network(item(path, index), value.strip())
    elif note is not None:
        path = at("metadata.annotations", _RANGES)
        if not balancer:
            faults.append(forbidden(path, _ONLY_BALANCER))
        for value in filter(None, note.strip().split(",")):
            faults += _network(path, value.strip())
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balancer:
        faults.append(forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCER))
    name = spec.get("loadBalancerClass")
    if name is not None and balancer:
        faults += label_key("spec.loadBalancerClass", name)
    elif name is not None:
        faults.append(forbidden("spec.loadBalancerClass", _ONLY_BALANCER))
    return faults


def _network(path: str, value: str) -> Faults:
    return list(formats.faults(path, value, formats.cidr(value)))


def _traffic(spec: Object, kind: str) -> Faults:
    path, policy = "spec.externalTrafficPolicy", spec.get("externalTrafficPolicy") or ""
    external = kind in ("LoadBalancer", "NodePort") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    faults: Faults = []
    if external:
        faults += one_of(path, policy, _POLICIES)
    elif policy:
        detail = "may only be set for externally-accessible services"
        faults.append(invalid(path, policy, detail))
    faults += _health_check(spec)
    internal = spec.get("internalTrafficPolicy")
    if internal is None and kind in ("NodePort", "LoadBalancer", "ClusterIP"):
        faults.append(required("spec.internalTrafficPolicy"))
    faults += optional_one_of("spec.internalTrafficPolicy", internal, _POLICIES)
    spread = spec.get("trafficDistribution")
    return faults + optional_one_of("spec.trafficDistribution", spread, ("PreferClose",))


def _needs_health_check(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _health_check(spec: Object) -> Faults:
    path, port = "spec.healthCheckNodePort", spec.get("healthCheckNodePort") or 0
    if not _needs_health_check(spec):
        detail = (
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
        return [invalid(path, port, detail)] if port else []
    if not port:
        return [required(path)]
    return [invalid(path, port, why) for why in formats.port_number(port)]


def _cluster_ips_update(spec: Object, before: Object) -> Faults:
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


def _ips_shown(spec: Object) -> Shown:
    addresses = spec.get("clusterIPs")
    return Shown("[]string(nil)") if addresses is None else go_strings(addresses)


def _families_shown(spec: Object) -> Shown:
    families = spec.get("ipFamilies")
    if families is None:
        return Shown("[]core.IPFamily(nil)")
    return Shown("[]core.IPFamily{" + ", ".join(map(quoted, families)) + "}")


def _families_update(spec: Object, before: Object) -> Faults:
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
