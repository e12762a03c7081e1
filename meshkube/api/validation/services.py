"""Services."""

from __future__ import annotations

from typing import Any, Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.addresses import (
    is_headless,
    validate_cluster_ips,
    validate_cluster_ips_update,
    validate_external_ips,
    validate_families_update,
)
from meshkube.api.validation.containers import PROTOCOLS
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    at,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    quoted,
    required,
)
from meshkube.api.validation.metadata import validate_labels
from meshkube.api.validation.probes import port_or_name
from meshkube.api.validation.selectors import label_key, one_of, optional_one_of

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES: Final = ("Cluster", "Local")
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
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
    faults += validate_cluster_ips(spec, (old or {}).get("spec") or {})
    faults += validate_external_ips(spec, (old or {}).get("spec") or {})
    faults += one_of("spec.type", kind, _TYPES)
    faults += _node_ports(spec, kind) + _port_duplicates(spec)
    faults += _load_balancer(service, spec, kind)
    faults += _traffic(spec, kind)
    return faults


def validate_service_update(service: Object, old: Object) -> Faults:
    spec, before = service.get("spec") or {}, old.get("spec") or {}
    faults: Faults = []
    if "ExternalName" not in (spec.get("type"), before.get("type")):
        faults += validate_cluster_ips_update(spec, before) + validate_families_update(spec, before)
    balancers = spec.get("type") == before.get("type") == "LoadBalancer"
    if balancers and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        faults.append(invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), _ONCE))
    if _needs_health_check(spec) and _needs_health_check(before):
        port, was = spec.get("healthCheckNodePort") or 0, before.get("healthCheckNodePort") or 0
        if port != was:
            faults.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return faults + validate_service(service, old)


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
    return faults + optional_one_of("spec.trafficDistribution", spread, _DISTRIBUTIONS)


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
