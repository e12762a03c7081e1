"""TLS contexts: one for each Secret in use, chosen by server name when the client connects.

A context holds the keys of its session tickets: a session lasts as long as its certificate. No
connection is lost when certificates change.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Callable, Mapping
from typing import NoReturn

from meshkube import pki
from meshkube.api.types import Object
from meshkube.ingress.client_hello import server_name
from meshkube.ingress.rules import most_exact

PROTOCOLS = ["h2", "http/1.1"]


class CertificateError(Exception):
    """A Secret that holds no usable certificate: the message says why."""


def pair_of(secret: Object | None) -> pki.Pair:
    """The certificate and key of a `kubernetes.io/tls` Secret. Raises `CertificateError`."""
    if secret is None:
        raise CertificateError("does not exist")
    data = secret.get("data") or {}
    values = []
    for name in ("tls.crt", "tls.key"):
        if not data.get(name):
            raise CertificateError(f"has no {name}")
        try:
            values.append(base64.b64decode(data[name], validate=True))
        except (binascii.Error, ValueError):
            raise CertificateError(f"holds a {name} that is not base64") from None
    return pki.Pair(*values)


def new_context(pair: pki.Pair) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and 1.3, ALPN, session tickets. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(PROTOCOLS)
    # One ticket a connection serves as well as OpenSSL's two, for half the work.
    context.num_tickets = 1
    load_pair(context, pair)
    return context


def load_pair(context: ssl.SSLContext, pair: pki.Pair) -> None:
    """Puts a certificate and its key in a context. Raises `CertificateError`."""
    certificate, key = _memory_file(pair.certificate), _memory_file(pair.key)
    try:
        context.load_cert_chain(_path(certificate), _path(key), password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CertificateError(_why(error)) from None
    finally:
        os.close(certificate)
        os.close(key)


def default_pair() -> pki.Pair:
    """What clients get whom no Secret serves: made by ourselves, trusted by nobody."""
    authority = pki.new_authority("meshkube ingress")
    return pki.issue(authority, "meshkube ingress default certificate", names=["ingress.invalid"])


class Certificates:
    """Which context serves which server name."""

    def __init__(self) -> None:
        pair = default_pair()
        self._default = new_context(pair)
        self._asking = new_context(pair)
        """For a client whose first bytes do not tell the server name: OpenSSL asks for it."""
        self._asking.sni_callback = self._choose
        self._hosts: dict[str, ssl.SSLContext] = {}
        self._loaded: dict[str, tuple[pki.Pair, ssl.SSLContext]] = {}

    def update(
        self, hosts: Mapping[str, str], secret: Callable[[str], Object | None]
    ) -> dict[str, str]:
        """Takes over `hosts` (host name to Secret's `namespace/name`), loading what has changed.
        Returns why Secrets cannot be used, by key: their hosts get the default certificate."""
        loaded: dict[str, tuple[pki.Pair, ssl.SSLContext]] = {}
        problems: dict[str, str] = {}
        for key in dict.fromkeys(hosts.values()):
            try:
                loaded[key] = self._load(key, secret(key))
            except CertificateError as error:
                problems[key] = str(error)
        self._loaded = loaded
        self._hosts = {host: loaded[key][1] for host, key in hosts.items() if key in loaded}
        return problems

    def context_for(self, hello: bytes) -> ssl.SSLContext:
        """The context to begin with, by the first bytes of a connection."""
        name = server_name(hello)
        if name is None:
            return self._asking
        return (self.find(name) if self._hosts else None) or self._default

    def find(self, name: str) -> ssl.SSLContext | None:
        """The most exact context for a server name: its own, a wildcard's (one label), that of
        rules without a host; None for the default certificate."""
        host = most_exact(name, self._hosts)
        return None if host is None else self._hosts[host]

    def _load(self, key: str, secret: Object | None) -> tuple[pki.Pair, ssl.SSLContext]:
        pair = pair_of(secret)
        held = self._loaded.get(key)
        return held if held is not None and held[0] == pair else (pair, new_context(pair))

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if self._hosts:
            found = self.find(name.lower().rstrip(".") if name else "")
            if found is not None:
                connection.context = found
        return None


def expiry_problem(secret: Object) -> str:
    """Why a certificate that does load is no good: its time is over. Empty while it is fine."""
    days = pki.remaining(pair_of(secret).certificate).days
    return f"holds a certificate that ended {-days} days ago" if days < 0 else ""


def _memory_file(content: bytes) -> int:
    """A file that no disk ever sees: OpenSSL's loader wants a path, and this is a private key."""
    descriptor = os.memfd_create("meshkube-tls", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _no_password() -> NoReturn:
    raise ValueError("holds a private key that is encrypted")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "holds a private key that does not belong to its certificate"
        return f"holds no usable certificate and key ({error.reason or 'not PEM'})"
    return str(error)
