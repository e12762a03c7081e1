"""How an extension API server knows that a request comes from this server, and for whom. Pure.

Each server signs for itself, with an authority of its own that signs nothing else; the ConfigMap
`kube-system/extension-apiserver-authentication` tells extension servers the authorities of all.
Source: Kubernetes documentation, "Configure the Aggregation Layer".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshkube.api.types import Object
from meshkube.control.auth.users import User

NAME, NAMESPACE = "extension-apiserver-authentication", "kube-system"
COMMON_NAME = "front-proxy-client"
_USER, _UID, _GROUP, _EXTRA = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group", "X-Remote-Extra-"
_SAFE = "!#$&'*+.^_`|~"
"""What may stand in a header's name beside letters, digits and `-` (RFC 9110, section 5.6.2)."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """PEM: who signs for clients of the API, and who for this server as a front proxy."""

    clients: str
    front_proxy: str


def settings(authorities: Authorities, stored: Object | None) -> Object:
    """The ConfigMap, with the authorities of the other servers that it has already."""
    data = dict((stored or {}).get("data") or {})
    data["client-ca-file"] = authorities.clients
    data["requestheader-client-ca-file"] = _merged(
        authorities.front_proxy, data.get("requestheader-client-ca-file", "")
    )
    data["requestheader-allowed-names"] = json.dumps([COMMON_NAME])
    data["requestheader-username-headers"] = json.dumps([_USER])
    data["requestheader-uid-headers"] = json.dumps([_UID])
    data["requestheader-group-headers"] = json.dumps([_GROUP])
    data["requestheader-extra-headers-prefix"] = json.dumps([_EXTRA])
    about = (stored or {}).get("metadata") or {"name": NAME, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def _merged(own: str, others: str) -> str:
    """Each certificate once, without those that have ended."""
    now = datetime.now(UTC)
    found: dict[str, None] = {}
    for text in (own, others):
        if "BEGIN CERTIFICATE" not in text:
            continue
        for one in x509.load_pem_x509_certificates(text.encode()):
            if one.not_valid_after_utc > now:
                found[one.public_bytes(serialization.Encoding.PEM).decode()] = None
    return "".join(sorted(found))


def headers(user: User) -> Iterator[tuple[str, str]]:
    """Who asks, as a front proxy says it."""
    yield _USER, user.name
    if user.uid:
        yield _UID, user.uid
    for group in user.groups:
        yield _GROUP, group
    for key, values in user.extra.items():
        for value in values:
            yield _EXTRA + quote(key.lower(), safe=_SAFE), value


def told_by_client(names: Iterable[str]) -> set[str]:
    """The headers (lower-case) of a request by which its sender could claim to be somebody, or that
    are for this server alone."""
    low = {name.lower() for name in names}
    return {one for one in low if one.startswith(("x-remote-", "impersonate-"))} | {"authorization"}
