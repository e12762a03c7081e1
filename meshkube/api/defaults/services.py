"""Defaults of Services and of what stands before and behind them."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.rules import Row
from meshkube.api.types import Object

_AFFINITY_SECONDS: Final = 10800


def _session_affinity(spec: Object) -> None:
    if spec.get("sessionAffinity") == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec.get("sessionAffinity") == "ClientIP":
        config = spec.get("sessionAffinityConfig") or {}
        if (config.get("clientIP") or {}).get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}


def _target_port(port: Object) -> None:
    if port.get("targetPort") in (None, 0, ""):
        port["targetPort"] = port.get("port") or 0


def _traffic_policies(spec: Object) -> None:
    kind = spec.get("type")
    external = kind in ("NodePort", "LoadBalancer") or (
        kind == "ClusterIP" and bool(spec.get("externalIPs"))
    )
    if external and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if (
        kind in ("ClusterIP", "NodePort", "LoadBalancer")
        and spec.get("internalTrafficPolicy") is None
    ):
        spec["internalTrafficPolicy"] = "Cluster"
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def _ip_mode(service: Object) -> None:
    if (service.get("spec") or {}).get("type") == "LoadBalancer":
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        for address in balancer.get("ingress") or ():
            if address.get("ip") and address.get("ipMode") is None:
                address["ipMode"] = "VIP"


SERVICE: Final[list[Row]] = [
    ("spec", {}),
    ("", _ip_mode),
    ("spec", lambda spec: _text(spec, "sessionAffinity", "None")),
    ("spec", _session_affinity),
    ("spec", lambda spec: _text(spec, "type", "ClusterIP")),
    ("spec", _traffic_policies),
    ("spec.ports[].protocol", "TCP"),
    ("spec.ports[]", _target_port),
]


def _text(obj: Object, key: str, value: str) -> None:
    if not obj.get(key):
        obj[key] = value


ENDPOINTS: Final[list[Row]] = [("subsets[].ports[].protocol", "TCP")]

ENDPOINT_SLICE: Final[list[Row]] = [("ports[].name", ""), ("ports[].protocol", "TCP")]

INGRESS_CLASS: Final[list[Row]] = [("spec.parameters.scope", "Cluster")]
