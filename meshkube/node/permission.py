"""Who may ask the node's server for what. Pure.

Its TLS lets in whoever holds a certificate of the cluster's CA; that is many. The API server, which
has asked its own rules already, may do everything. Other nodes may fetch images. Nobody else has
business here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MASTERS, NODES = "system:masters", "system:nodes"
OF_IMAGES = ("/images", "/images/archive")


def groups(certificate: Mapping[str, Any] | None) -> set[str]:
    """The groups of a verified certificate's user, as `ssl` describes one."""
    return {
        value
        for attributes in (certificate or {}).get("subject", ())
        for name, value in attributes
        if name == "organizationName"
    }


def is_master(certificate: Mapping[str, Any] | None) -> bool:
    """Whether the holder is the API server or an operator."""
    return MASTERS in groups(certificate)


def permitted(certificate: Mapping[str, Any] | None, method: str, path: str) -> bool:
    """Whether the holder may make this request."""
    if is_master(certificate):
        return True
    return NODES in groups(certificate) and method == "GET" and path in OF_IMAGES
