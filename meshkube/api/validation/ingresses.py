"""Ingresses and IngressClasses."""

from __future__ import annotations

import re
from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    Shown,
    child,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
    too_long,
)

_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES: Final = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS: Final = ("/..", "/.")
_CLASS: Final = "kubernetes.io/ingress.class"
_URL_PATH: Final = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"


def validate_ingress_create(ingress: Object) -> Faults:
    note = ((ingress.get("metadata") or {}).get("annotations") or {}).get(_CLASS)
    name = (ingress.get("spec") or {}).get("ingressClassName")
    faults = validate_ingress(ingress)
    if note is not None and name is not None and note != name:
        detail = "must match `ingressClassName` when both are specified"
        faults.append(invalid(f"annotations.{_CLASS}", note, detail))
    return faults


def validate_ingress_update(ingress: Object, old: Object) -> Faults:
    return validate_ingress(ingress)


def validate_ingress(ingress: Object) -> Faults:
    spec = ingress.get("spec") or {}
    rules, default = spec.get("rules") or [], spec.get("defaultBackend")
    faults: Faults = []
    if not rules and default is None:
        detail = "either `defaultBackend` or `rules` must be specified"
        shown = "[]networking.IngressRule" + ("{}" if spec.get("rules") == [] else "(nil)")
        faults.append(invalid("spec", Shown(shown), detail))
    if default is not None:
        faults += _backend(default, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        faults += _rule(rule, item("spec.rules", index))
    for index, entry in enumerate(spec.get("tls") or ()):
        faults += _tls(entry, item("spec.tls", index))
    name = spec.get("ingressClassName")
    if name is not None:
        faults += formats.faults("spec.ingressClassName", name, formats.dns_subdomain(name))
    return faults


def _host(path: str, host: str) -> Faults:
    check = formats.wildcard_subdomain if "*" in host else formats.dns_subdomain
    return list(formats.faults(path, host, check(host)))


def _rule(rule: Object, path: str) -> Faults:
    faults: Faults = []
    host = rule.get("host") or ""
    if host:
        if formats.ip_address(host) is not None:
            detail = "must be a DNS name, not an IP address"
            faults.append(invalid(child(path, "host"), host, detail))
        faults += _host(child(path, "host"), host)
    http = rule.get("http")
    if http is None:
        return faults
    place = child(path, "http.paths")
    if not http.get("paths"):
        faults.append(required(place))
    for index, entry in enumerate(http.get("paths") or ()):
        faults += _path(entry, item(place, index))
    return faults


def _path(entry: Object, path: str) -> Faults:
    kind, where = entry.get("pathType"), entry.get("path") or ""
    if kind is None:
        return [required(child(path, "pathType"), "pathType must be specified")]
    faults: Faults = []
    place = child(path, "path")
    if kind not in _PATH_TYPES:
        faults.append(not_supported(child(path, "pathType"), kind, _PATH_TYPES))
    elif not where.startswith("/") and (where or kind != "ImplementationSpecific"):
        faults.append(invalid(place, where, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        faults += [
            invalid(place, where, f"must not contain '{bad}'")
            for bad in _BAD_SEQUENCES
            if bad in where
        ]
        faults += [
            invalid(place, where, f"cannot end with '{bad}'")
            for bad in _BAD_ENDS
            if where.endswith(bad)
        ]
    return faults + _backend(entry.get("backend") or {}, child(path, "backend"))


def _backend(backend: Object, path: str) -> Faults:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _reference(resource, child(path, "resource"))
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    faults: Faults = []
    place, name = child(path, "service.name"), service.get("name") or ""
    if name:
        faults += formats.faults(place, name, formats.dns_1035_label(name))
    else:
        faults.append(required(place))
    return faults + _backend_port(service.get("port") or {}, path)


def _backend_port(port: Object, path: str) -> Faults:
    name, number = port.get("name") or "", port.get("number") or 0
    if name and number:
        return [invalid(path, "", "cannot set both port name & port number")]
    if name:
        place = child(path, "service.port.name")
        return list(formats.faults(place, name, formats.port_name(name)))
    if not number:
        return [required(path, "port name or number is required")]
    place = child(path, "service.port.number")
    return [invalid(place, number, why) for why in formats.port_number(number)]


def _reference(reference: Object, path: str) -> Faults:
    """An object of any kind in the same namespace."""
    faults: Faults = []
    group = reference.get("apiGroup")
    if group is not None:
        faults += formats.faults(child(path, "apiGroup"), group, formats.dns_subdomain(group))
    for field in ("kind", "name"):
        value = reference.get(field) or ""
        if value:
            faults += formats.faults(child(path, field), value, formats.path_segment(value))
        else:
            faults.append(required(child(path, field), f"{field} is required"))
    return faults


def _tls(entry: Object, path: str) -> Faults:
    faults: Faults = []
    for index, host in enumerate(entry.get("hosts") or ()):
        faults += _host(item(child(path, "hosts"), index), host)
    name = entry.get("secretName") or ""
    if name:
        faults += formats.faults(child(path, "secretName"), name, formats.dns_subdomain(name))
    return faults


def validate_ingress_class(ingress_class: Object) -> Faults:
    spec = ingress_class.get("spec") or {}
    controller, faults = spec.get("controller") or "", _controller(spec)
    if len(controller) > 250:
        faults.insert(0, too_long("spec.controller", 250))
    parameters = spec.get("parameters")
    if parameters is not None:
        faults += _reference(parameters, "spec.parameters")
        faults += _scope(parameters, "spec.parameters")
    return faults


def validate_ingress_class_update(ingress_class: Object, old: Object) -> Faults:
    controller = (ingress_class.get("spec") or {}).get("controller") or ""
    faults: Faults = []
    if controller != ((old.get("spec") or {}).get("controller") or ""):
        faults.append(invalid("spec.controller", controller, IMMUTABLE))
    return faults + validate_ingress_class(ingress_class)


def _controller(spec: Object) -> Faults:
    value = spec.get("controller") or ""
    return (
        domain_prefixed_path("spec.controller", value) if value else [required("spec.controller")]
    )


def domain_prefixed_path(path: str, value: str) -> Faults:
    """`example.com/name`."""
    host, _, rest = value.partition("/")
    if not host or not rest:
        detail = 'must be a domain-prefixed path (such as "acme.io/foo")'
        return [invalid(path, value, detail)]
    faults = list(formats.faults(path, host, formats.dns_subdomain(host)))
    if not re.fullmatch(_URL_PATH, rest, re.ASCII):
        faults.append(invalid(path, rest, formats.wrong_form("Invalid path", _URL_PATH)))
    return faults


def _scope(parameters: Object, path: str) -> Faults:
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    place = child(path, "namespace")
    if scope is None:
        return [required(child(path, "scope"))]
    if scope not in ("Cluster", "Namespace"):
        return [not_supported(child(path, "scope"), scope, ("Cluster", "Namespace"))]
    if scope == "Cluster":
        detail = "`parameters.scope` is set to 'Cluster'"
        return [] if namespace is None else [forbidden(place, detail)]
    if namespace is None:
        return [required(place, "`parameters.scope` is set to 'Namespace'")]
    return list(formats.faults(place, namespace, formats.dns_label(namespace)))
