"""How the pods of a backend are spoken to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PodTls:
    """TLS to pods."""

    secret: str = ""
    """`namespace/name` of the Secret with the authority (`ca.crt`) that the pods' certificates must
    come from, and perhaps a certificate of the ingress' own (`tls.crt`, `tls.key`)."""
    verify: bool = False
    name: str = ""
    """What the pods' certificates must be for, and are asked for; empty: the Service's DNS name."""
    send_name: bool = False
    """Whether the name is sent (SNI) where it is not verified; with `verify` it is."""


@dataclass(frozen=True, slots=True)
class Via:
    """A protocol, and what is around it."""

    http2: bool = False
    tls: PodTls | None = None


PLAIN = Via()

# A Service port's `appProtocol`; Kubernetes' own names are those of KEP-3726.
_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Via(http2=True),
    "grpc": Via(http2=True),
    "https": Via(tls=PodTls()),
    "kubernetes.io/wss": Via(tls=PodTls()),
}


def of_port(port: Mapping[str, Any]) -> Via:
    """What a Service port says about itself."""
    return _APP_PROTOCOLS.get(str(port.get("appProtocol") or "").lower(), PLAIN)
