"""The names that `proxy` paths use: `name`, `name:port` and `scheme:name:port`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from meshkube.api import errors, meta
from meshkube.api.types import Object


class Named(NamedTuple):
    """`port` is a number, a port's name, or empty."""

    scheme: str
    name: str
    port: str


def split(text: str) -> Named:
    """Raises `ApiError` 400."""
    parts = text.split(":")
    scheme, port = "http", ""
    if len(parts) == 1:
        name = parts[0]
    elif len(parts) == 2:
        name, port = parts
    elif len(parts) == 3:
        scheme, name, port = parts[0] or "http", parts[1], parts[2]
    else:
        name = ""
    if not name or scheme not in ("http", "https"):
        raise errors.bad_request(f"invalid request {text!r}: not name, name:port, scheme:name:port")
    return Named(scheme, name, port)


def pod_port(pod: Object, wanted: str) -> int:
    """The port of a pod that is meant: the first that it declares where none is named, 80 where it
    declares none. Raises `ApiError` 400."""
    declared = [
        port
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
    ]
    if not wanted:
        return int(declared[0]["containerPort"]) if declared else 80
    if wanted.isdigit() and 0 < int(wanted) < 65536:
        return int(wanted)
    for port in declared:
        if port.get("name") == wanted:
            return int(port["containerPort"])
    raise errors.bad_request(f"pod {meta.name(pod)} has no port {wanted!r}")


def service_port(service: Object, wanted: str) -> str:
    """The name (maybe empty) of the Service's port that is meant. Raises `ApiError` 503."""
    name = meta.name(service)
    ports = (service.get("spec") or {}).get("ports") or []
    for port in ports:
        if wanted in (str(port.get("port")), port.get("name") or ""):
            return str(port.get("name") or "")
    if not wanted and len(ports) == 1:
        return str(ports[0].get("name") or "")
    if wanted.isdigit():
        raise errors.unavailable(f'no service port {wanted} found for service "{name}"')
    raise errors.unavailable(f'no endpoints available for service "{name}:{wanted}"')


class Endpoint(NamedTuple):
    """One place where a Service's port is answered; `pod` is empty for what is no pod."""

    address: str
    port: int
    pod: str
    node: str

    @property
    def authority(self) -> str:
        """Address and port, as in a URL."""
        address = ip_address(self.address)
        return f"[{address}]:{self.port}" if address.version == 6 else f"{address}:{self.port}"


def of_service(slices: Iterable[Object], name: str) -> list[Object]:
    """The EndpointSlices of one Service among those of its namespace."""
    return [one for one in slices if meta.labels(one).get("kubernetes.io/service-name") == name]


def endpoints(slices: list[Object], port_name: str) -> list[Endpoint]:
    """Those that are ready, of the EndpointSlices of one Service."""
    found = []
    for one in slices:
        numbers = [
            port["port"]
            for port in one.get("ports") or ()
            if (port.get("name") or "") == port_name and port.get("port")
        ]
        for endpoint in one.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready", True)
            if not numbers or ready is False:
                continue
            target = endpoint.get("targetRef") or {}
            pod = str(target.get("name") or "") if target.get("kind") == "Pod" else ""
            node = str(endpoint.get("nodeName") or "")
            found.append(Endpoint(endpoint["addresses"][0], numbers[0], pod, node))
    return found
