"""TLS to one named peer whose authority is known: spoken here, or by a node on a server's behalf.

A server that has no route to a pod asks the pod's node to connect. The node then has to know what
the pod's certificate must prove: these headers of the request say it.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from multidict import CIMultiDictProxy

NAME = "X-Meshkube-Tls-Name"
AUTHORITY = "X-Meshkube-Tls-Authority"
"""The CA bundle, in as many headers as it takes."""
UNREACHABLE = "X-Meshkube-Unreachable"
"""A node's answer has it where the node did not reach the pod: the reason."""
_PIECE = 4000
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Verify:
    """What a peer must prove: `bundle` is base64 of PEM certificates, empty for the host's own."""

    name: str
    bundle: str = ""

    def headers(self) -> Iterable[tuple[str, str]]:
        yield NAME, self.name
        for start in range(0, len(self.bundle), _PIECE):
            yield AUTHORITY, self.bundle[start : start + _PIECE]

    @classmethod
    def of(cls, headers: CIMultiDictProxy[str]) -> Verify | None:
        """What the headers of a request say; None where they say nothing."""
        name = headers.get(NAME)
        if not name:
            return None
        return cls(name, "".join(headers.getall(AUTHORITY, [])))


@lru_cache(maxsize=_KEPT)
def verified(bundle: str) -> ssl.SSLContext:
    """`trusting`, made once for each bundle and shared: never change one. Raises `ValueError`."""
    return trusting(bundle)


def trusting(bundle: str, *, anybody: bool = False) -> ssl.SSLContext:
    """A client's context that trusts only what a bundle (base64 of PEM) names; an empty one trusts
    what the host does, and `anybody` means whoever answers. Raises `ValueError`."""
    if anybody:
        return unverified()
    if not bundle:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=base64.b64decode(bundle, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise ValueError(f"no PEM certificates: {error}") from None
    # As in Kubernetes, whatever the bundle names is trusted, an issuer's or a server's own.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def unverified() -> ssl.SSLContext:
    """TLS to whoever answers, as Kubernetes' proxies do it towards addresses of the cluster."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
