"""TLS to pods: a context for each way that Ingresses ask for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from meshkube.api.types import Object
from meshkube.ingress.backends import Backend
from meshkube.ingress.certificates import CertificateError, authority_of, load_pair, pair_of
from meshkube.ingress.via import PodTls, Via


class BackendTlsError(Exception):
    """A pod cannot be asked over TLS as its Ingress wants it: the message says why."""


class BackendTls:
    """The contexts, each made anew when its Secret changes."""

    def __init__(self) -> None:
        self.secret: Callable[[str], Object | None] = _none
        """Finds a Secret by `namespace/name`."""
        self._contexts: dict[Via, tuple[Any, ssl.SSLContext]] = {}

    def options(self, via: Via, backend: Backend) -> dict[str, Any]:
        """Of `create_connection`. Raises `BackendTlsError`."""
        tls = via.tls
        assert tls is not None
        name = tls.name or backend.external or f"{backend.service}.{backend.namespace}.svc"
        return {
            "ssl": self._context(via, tls),
            "server_hostname": name if tls.verify or tls.send_name or backend.external else "",
        }

    def _context(self, via: Via, tls: PodTls) -> ssl.SSLContext:
        data = None
        if tls.secret:
            secret = self.secret(tls.secret)
            if secret is None:
                raise BackendTlsError(f"secret {tls.secret} does not exist")
            data = secret.get("data") or {}
        held = self._contexts.get(via)
        if held is not None and held[0] == data:
            return held[1]
        context = _new_context(tls, data)
        context.set_alpn_protocols(["h2"] if via.http2 else ["http/1.1"])
        self._contexts[via] = data, context
        return context


def _new_context(tls: PodTls, data: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.verify
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE
    try:
        if data is None:
            if tls.verify:
                context.load_default_certs()
            return context
        if tls.verify:
            context.load_verify_locations(cadata=authority_of(data))
        if data.get("tls.crt"):
            load_pair(context, pair_of({"data": data}))
    except (CertificateError, ssl.SSLError, ValueError) as error:
        raise BackendTlsError(f"secret {tls.secret} {error}") from None
    return context


def _none(key: str) -> Object | None:
    return None
