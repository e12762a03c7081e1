"""Which pods stand behind a Service, and on which ports: what Endpoints and EndpointSlices share.

Pure. Source: the Service, EndpointSlice and Pod API references.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods

HEADLESS = "service.kubernetes.io/headless"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

REST = 20.0
"""Of a Service with thousands of pods, many change in the time that one look at all of them takes:
a pause of so many times that (`loop.Controller.rest`) serves them with one look."""

Port = tuple[str, int, str, str]
"""Name, number, protocol, application protocol."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod behind a Service, at one address."""

    pod: Object
    address: str
    ports: tuple[Port, ...]
    ready: bool
    """Its readiness probe says so, whether or not it is being deleted."""
    terminating: bool


def has_backends(service: Object) -> bool:
    """True where pods are selected, and so controllers say the endpoints."""
    spec = service.get("spec") or {}
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def families(service: Object) -> list[str]:
    return list((service.get("spec") or {}).get("ipFamilies") or ["IPv4"])


def headless(service: Object) -> bool:
    return (service.get("spec") or {}).get("clusterIP") == "None"


def backends(service: Object, selected: Iterable[Object], family: str) -> list[Backend]:
    """The pods of the Service with an address of the family, in the order of their names."""
    found = []
    same = _same_for_all(service)
    for pod in sorted(selected, key=meta.name):
        if pods.finished(pod):
            continue
        address = _address(pod, family)
        if address:
            ports = same if same is not None else _ports(service, pod)
            found.append(Backend(pod, address, ports, pods.ready(pod), meta.deleting(pod)))
    return found


def _same_for_all(service: Object) -> tuple[Port, ...] | None:
    """The ports where no pod has a say in them: none is named."""
    named = (port.get("targetPort") for port in (service.get("spec") or {}).get("ports") or ())
    return None if any(isinstance(target, str) for target in named) else _ports(service, {})


def _address(pod: Object, family: str) -> str:
    status = pod.get("status") or {}
    known = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return next((ip for ip in known if ip and _family_of(ip) == family), "")


@functools.lru_cache(maxsize=16384)
def _family_of(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def _ports(service: Object, pod: Object) -> tuple[Port, ...]:
    result: list[Port] = []
    for port in (service.get("spec") or {}).get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        number = _target(port, protocol, pod)
        if number:
            result.append((port.get("name") or "", number, protocol, port.get("appProtocol") or ""))
    return tuple(result)


def _target(port: Mapping[str, Any], protocol: str, pod: Object) -> int:
    """The pod's port that a Service's port leads to; 0 where the pod has none of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and (offered.get("protocol") or "TCP") == protocol:
                return int(offered["containerPort"])
    return 0


def publishes_not_ready(service: Object) -> bool:
    return bool((service.get("spec") or {}).get("publishNotReadyAddresses"))


def hostname(service: Object, pod: Object) -> str:
    """The name of the pod's own under the Service's in DNS; empty where it has none."""
    spec = pod.get("spec") or {}
    named = spec.get("hostname") and spec.get("subdomain") == meta.name(service)
    return str(spec["hostname"]) if named else ""


def target_reference(pod: Object) -> Object:
    return {
        "kind": "Pod",
        "namespace": meta.namespace(pod),
        "name": meta.name(pod),
        "uid": meta.uid(pod),
    }


def port_object(port: Port) -> Object:
    name, number, protocol, application = port
    result: Object = {"name": name, "port": number, "protocol": protocol}
    if application:
        result["appProtocol"] = application
    return result


def selected_pods(caches: Informers, service: Object) -> list[Object]:
    """The pods a Service selects now."""
    selector = service["spec"]["selector"]
    key = min(selector)
    value = f"{meta.namespace(service)}/{key}={selector[key]}"
    candidates = caches.of(kinds.POD).by_index(indexes.LABEL, value)
    return [pod for pod in candidates if selector.items() <= meta.labels(pod).items()]


def services_of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """The Services for which a change of a pod matters."""
    if old is not None and new is not None and _seen(old) == _seen(new):
        return ()
    keys: set[str] = set()
    cache = caches.of(kinds.SERVICE)
    for pod in (old, new):
        if pod is None:
            continue
        labels = meta.labels(pod)
        for name, value in labels.items():
            for service in cache.by_index(
                indexes.SELECTOR, f"{meta.namespace(pod)}/{name}={value}"
            ):
                if service["spec"]["selector"].items() <= labels.items():
                    keys.add(meta.key(service))
    return keys


def _seen(pod: Object) -> tuple[object, ...]:
    status = pod.get("status") or {}
    return (
        meta.uid(pod),
        meta.labels(pod),
        meta.deleting(pod),
        pods.ready(pod),
        pods.finished(pod),
        status.get("podIP"),
        status.get("podIPs"),
        pods.node_name(pod),
    )
