"""What one host wants of TLS. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshkube.ingress.client_auth import ClientAuth


@dataclass(frozen=True, slots=True)
class HostTls:
    """The certificates of a host, and what it asks of its clients."""

    secrets: tuple[str, ...]
    """`namespace/name` of the Secrets with its certificates: the first of each kind of key."""
    client_auth: ClientAuth | None = None
