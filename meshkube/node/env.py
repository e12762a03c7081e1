"""A container's environment, resolved. Pure: `environment(...)` raises `ConfigError` for what is
missing, in the words people know from `kubectl describe`."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from meshkube.api import meta, quantities
from meshkube.api.types import Object
from meshkube.node.view import all_containers

SourceKind = Literal["ConfigMap", "Secret"]
Lookup = Callable[[SourceKind, str], Object | None]
"""The object of that kind and name in the pod's namespace, or None."""

_NAME = re.compile(r"[ -<>-~]+")
_FIELD_KEY = re.compile(r"(metadata\.(?:labels|annotations))\['([^']+)'\]")


class ConfigError(Exception):
    """Why the container cannot be configured: reason `CreateContainerConfigError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What references may point to."""

    pod: Object
    pod_ip: str
    node_name: str
    host_ip: str
    lookup: Lookup
    allocatable: Mapping[str, str]
    """The node's `cpu`, `memory`, `ephemeral-storage`: the limits of who has none."""
    tokens: Mapping[tuple[str, int], str] = field(default_factory=dict)
    """Of the pod's service account, by audience and seconds."""
    second_ips: tuple[str, ...] = ()
    """The node's addresses beside `host_ip`."""


def environment(
    container: Object, context: Context, services: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """`(name, value)` in order. `services` are the Services' variables: the weakest of all."""
    found: dict[str, str] = dict(services)
    from_sources = _from_sources(container, context)
    found.update(from_sources)
    for entry in container.get("env") or ():
        value = _value(entry, container, context, found)
        if value is not None:
            found[entry["name"]] = value
    return tuple(found.items())


def _from_sources(container: Object, context: Context) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix") or ""
        for kind, place in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
            reference = source.get(place)
            if reference is None:
                continue
            obj = context.lookup(kind, reference["name"])  # type: ignore[arg-type]
            if obj is None:
                if reference.get("optional"):
                    continue
                raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
            for key, data in sorted(contents(kind, obj).items()):  # type: ignore[arg-type]
                if _NAME.fullmatch(prefix + key):
                    found[prefix + key] = data.decode(errors="replace")
    return found


def _value(
    entry: Object, container: Object, context: Context, found: Mapping[str, str]
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(str(entry.get("value") or ""), found)
    if "fieldRef" in source:
        return field_value(source["fieldRef"].get("fieldPath", ""), context)
    if "resourceFieldRef" in source:
        return resource_value(source["resourceFieldRef"], container, context)
    if "configMapKeyRef" in source:
        return _key(source["configMapKeyRef"], "ConfigMap", context)
    if "secretKeyRef" in source:
        return _key(source["secretKeyRef"], "Secret", context)
    raise ConfigError(f"env {entry['name']}: no known source")


def _key(reference: Object, kind: SourceKind, context: Context) -> str | None:
    name, key = reference.get("name", ""), reference["key"]
    optional = bool(reference.get("optional"))
    obj = context.lookup(kind, name)
    if obj is None:
        if optional:
            return None
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    value = contents(kind, obj).get(key)
    if value is None:
        if optional:
            return None
        raise ConfigError(f"couldn't find key {key} in {kind} {meta.namespace(context.pod)}/{name}")
    return value.decode(errors="replace")


def contents(kind: SourceKind, obj: Mapping[str, Any]) -> dict[str, bytes]:
    """Every key of a ConfigMap or Secret, as bytes."""
    data = obj.get("data") or {}
    if kind == "Secret":
        return {key: _decoded(value) for key, value in data.items()}
    found = {key: str(value).encode() for key, value in data.items()}
    binary = obj.get("binaryData") or {}
    return found | {key: _decoded(value) for key, value in binary.items()}


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value or "")
    except (binascii.Error, ValueError):
        return b""


def field_value(path: str, context: Context) -> str:
    """The value of a `fieldRef`. Raises `ConfigError` for a path not supported."""
    pod = context.pod
    keyed = _FIELD_KEY.fullmatch(path)
    if keyed:
        values = meta.labels(pod) if keyed[1].endswith("labels") else meta.annotations(pod)
        return values.get(keyed[2], "")
    spec = pod["spec"]
    simple: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name(pod),
        "metadata.namespace": lambda: meta.namespace(pod),
        "metadata.uid": lambda: meta.uid(pod),
        "metadata.labels": lambda: _listed(meta.labels(pod)),
        "metadata.annotations": lambda: _listed(meta.annotations(pod)),
        "spec.nodeName": lambda: context.node_name,
        "spec.serviceAccountName": lambda: str(spec.get("serviceAccountName") or ""),
        "status.hostIP": lambda: context.host_ip,
        "status.hostIPs": lambda: ",".join((context.host_ip, *context.second_ips)),
        "status.podIP": lambda: context.pod_ip,
        "status.podIPs": lambda: ",".join(_all_addresses(context)),
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return simple[path]()


def _all_addresses(context: Context) -> list[str]:
    known = (context.pod.get("status") or {}).get("podIPs") or ()
    others = [each["ip"] for each in known if each.get("ip") and each["ip"] != context.pod_ip]
    return [context.pod_ip, *others]


def _listed(values: Mapping[str, str]) -> str:
    lines = []
    for key, value in sorted(values.items()):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'{key}="{escaped}"')
    return "\n".join(lines)


def resource_value(reference: Object, container: Object, context: Context) -> str:
    """The value of a `resourceFieldRef`, in its divisor, rounded up."""
    name = reference.get("containerName")
    if name and name != container.get("name"):
        everyone = all_containers(context.pod)
        container = next((c for c in everyone if c["name"] == name), {})
        if not container:
            raise ConfigError(f"container {name} not found")
    which, _, resource = str(reference["resource"]).partition(".")
    amount = ((container.get("resources") or {}).get(which) or {}).get(resource)
    if amount is None:
        amount = context.allocatable.get(resource, "0") if which == "limits" else "0"
    divisor = str(reference.get("divisor") or "1")
    if quantities.parse(divisor) == 0:
        divisor = "1"
    return str(math.ceil(quantities.parse(str(amount)) / quantities.parse(divisor)))


_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known; `$$` is one `$`, so `$$(NAME)` stays as it reads."""

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(replaced, text)


def service_variables(namespace: str, services: Iterable[Object], links: bool) -> dict[str, str]:
    """What Kubernetes tells each container of the Services of its `namespace` (where `links`), and
    always of the API's own. Source: Kubernetes documentation, "Service: Environment variables"."""
    found: dict[str, str] = {}
    master: dict[str, str] = {}
    for service in services:
        address = service["spec"].get("clusterIP") or "None"
        if address == "None" or not service["spec"].get("ports"):
            continue
        where, name = meta.namespace(service), meta.name(service)
        if where == "default" and name == "kubernetes":
            master = _variables_of(service, address)
        elif links and where == namespace:
            found.update(_variables_of(service, address))
    return {**master, **found}


def _variables_of(service: Object, address: str) -> dict[str, str]:
    base = re.sub(r"[-.]", "_", meta.name(service)).upper()
    ports = service["spec"]["ports"]
    found = {f"{base}_SERVICE_HOST": address, f"{base}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            suffix = re.sub(r"[-.]", "_", port["name"]).upper()
            found[f"{base}_SERVICE_PORT_{suffix}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = str(port.get("protocol") or "TCP")
        url = f"{protocol.lower()}://{address}:{port['port']}"
        if index == 0:
            found[f"{base}_PORT"] = url
        prefix = f"{base}_PORT_{port['port']}_{protocol}"
        found[prefix] = url
        found[f"{prefix}_PROTO"] = protocol.lower()
        found[f"{prefix}_PORT"] = str(port["port"])
        found[f"{prefix}_ADDR"] = address
    return found
