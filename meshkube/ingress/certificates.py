"""TLS contexts: one for each set of certificates in use, chosen by server name when the client
connects.

A context holds the keys of its session tickets: a session lasts as long as its certificate, and as
the key that all nodes share. No connection is lost when certificates change.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from meshkube import pki
from meshkube.api.types import Object
from meshkube.ingress import openssl, ticket_keys
from meshkube.ingress.client_auth import ClientAuth, ClientCertificate
from meshkube.ingress.client_hello import server_name
from meshkube.ingress.host_tls import HostTls
from meshkube.ingress.rules import most_exact

PROTOCOLS = ["h2", "http/1.1"]
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that HTTP/2 allows (RFC 9113, appendix A), as ingress-nginx has them."""
SOON = timedelta(days=10)
TICKET_NAME = 16
"""Bytes of its keys' name, with which a ticket begins."""
ENDS = "holds a certificate that ends in"


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


def new_context(pair: pki.Pair) -> HostContext:
    """A server's context: TLS 1.2 and 1.3, ALPN, session tickets. Raises `CertificateError`."""
    context = HostContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(PROTOCOLS)
    context.set_ciphers(CIPHERS)
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


class HostContext(ssl.SSLContext):
    """A context that knows whose certificates it asks for."""

    client_auth: ClientAuth | None = None
    tickets = tickets_before = b""
    """What its session tickets are encrypted with, and were until the last replacement (of length
    `openssl.KEYS`); empty: with keys of its own."""

    def knows_from_before(self, hello: bytes) -> bool:
        """Whether a client comes with a ticket of the keys before: its name is in its first bytes,
        in the clear (RFC 5077, section 4)."""
        before = self.tickets_before
        return bool(before) and before[:TICKET_NAME] in hello

    def use_tickets(self, keys: bytes) -> None:
        """Reads and makes tickets with these from now on."""
        openssl.set_ticket_keys(self, keys)


class Certificates:
    """Which context serves which server name."""

    def __init__(self) -> None:
        pair = default_pair()
        self._default_pair = pair
        self._default = new_context(pair)
        self._asking = new_context(pair)
        """For a client whose first bytes do not tell the server name: OpenSSL asks for it."""
        self._asking.sni_callback = self._choose
        self._hosts: dict[str, HostContext] = {}
        self._loaded: dict[_Wanted, HostContext] = {}
        self._pairs: dict[str, pki.Pair] = {}
        """The sound ones, by Secret."""
        self._master = self._previous = b""

    def update(
        self,
        hosts: Mapping[str, HostTls],
        secret: Callable[[str], Object | None],
    ) -> dict[str, str]:
        """Takes over what each host wants, loading what has changed. Returns why Secrets cannot be
        used, by key: their hosts get the default certificate, and those that demand certificates of
        clients can verify none."""
        problems: dict[str, str] = {}
        wanted_keys = dict.fromkeys(key for host in hosts.values() for key in host.secrets)
        pairs = self._pairs = _sound(wanted_keys, secret, problems, self._pairs)
        authorities: dict[str, str] = {}
        loaded: dict[_Wanted, HostContext] = {}
        chosen: dict[str, HostContext] = {}
        for name, host in hosts.items():
            own = _by_kind(pairs[key] for key in host.secrets if key in pairs)
            if not own and host.client_auth is None:
                continue
            authority = ""
            if host.client_auth is not None:
                key = host.client_auth.secret
                if key not in authorities:
                    authorities[key] = _authority(key, secret, problems)
                authority = authorities[key]
            wanted = _Wanted(own or (self._default_pair,), host.client_auth, authority)
            context = loaded.get(wanted) or self._loaded.get(wanted)
            if context is None:
                try:
                    context = self._new(wanted)
                except CertificateError as error:
                    problems[host.secrets[0] if host.secrets else ""] = str(error)
                    continue
            loaded[wanted] = context
            chosen[name] = context
        self._loaded = loaded
        self._hosts = chosen
        return problems

    def share_tickets(self, master: bytes, previous: bytes = b"") -> None:
        """Sessions are resumed at every node that has the same key, also those begun with the
        previous one. Empty: each context keeps the keys that it has."""
        if master and (master, previous) != (self._master, self._previous):
            self._master, self._previous = master, previous
            for wanted, context in self._loaded.items():
                self._key(wanted, context)

    def _new(self, wanted: _Wanted) -> HostContext:
        first, *others = wanted.pairs
        context = new_context(first)
        for pair in others:
            load_pair(context, pair)
        auth = wanted.client_auth
        if auth is not None:
            context.client_auth = auth
            context.verify_mode = ssl.CERT_OPTIONAL
            if wanted.authority:
                context.load_verify_locations(cadata=wanted.authority)
            openssl.set_verify_depth(context, auth.depth)
        self._key(wanted, context)
        return context

    def _key(self, wanted: _Wanted, context: HostContext) -> None:
        if not self._master:
            return
        digest = wanted.digest()
        context.tickets = ticket_keys.derived(self._master, digest, openssl.KEYS)
        context.use_tickets(context.tickets)
        if self._previous:
            context.tickets_before = ticket_keys.derived(self._previous, digest, openssl.KEYS)

    def context_for(self, hello: bytes) -> HostContext:
        """The context to begin with, by the first bytes of a connection."""
        name = server_name(hello)
        if name is None:
            return self._asking
        return (self.find(name) if self._hosts else None) or self._default

    def find(self, name: str) -> HostContext | None:
        """The most exact context for a server name: its own, a wildcard's (one label), that of
        rules without a host; None for the default certificate."""
        host = most_exact(name, self._hosts)
        return None if host is None else self._hosts[host]

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        if self._hosts:
            found = self.find(name.lower().rstrip(".") if name else "")
            if found is not None:
                connection.context = found
        return None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that makes one context different from another."""

    pairs: tuple[pki.Pair, ...]
    client_auth: ClientAuth | None
    authority: str

    def digest(self) -> bytes:
        """Names it in a few bytes, the same on all nodes."""
        found = hashlib.sha256(self.authority.encode())
        found.update(repr(self.client_auth).encode())
        for pair in self.pairs:
            found.update(hashlib.sha256(pair.certificate).digest())
        return found.digest()


def _sound(
    keys: Iterable[str],
    secret: Callable[[str], Object | None],
    problems: dict[str, str],
    known: Mapping[str, pki.Pair],
) -> dict[str, pki.Pair]:
    """The pairs that can be used; notes what is wrong with the others. Those `known` are not tried
    again."""
    found = {}
    for key in keys:
        try:
            pair = pair_of(secret(key))
            if known.get(key) != pair:
                load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
            found[key] = pair
        except CertificateError as error:
            problems[key] = str(error)
    return found


def _by_kind(pairs: Iterable[pki.Pair]) -> tuple[pki.Pair, ...]:
    """The first certificate of each kind of key: clients choose by the algorithms they know."""
    found = tuple(pairs)
    if len(found) < 2:
        return found
    kinds: dict[str, pki.Pair] = {}
    for pair in found:
        kinds.setdefault(pki.key_kind(pair.certificate), pair)
    return tuple(kinds.values())


def _authority(key: str, secret: Callable[[str], Object | None], problems: dict[str, str]) -> str:
    """PEM; empty where it cannot be used: nobody's certificate is good then."""
    if not key:
        return ""
    try:
        found = secret(key)
        if found is None:
            raise CertificateError("does not exist")
        authority = authority_of(found.get("data") or {})
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=authority)
    except CertificateError as error:
        problems[key] = str(error)
    except (ssl.SSLError, ValueError):
        problems[key] = "holds a ca.crt that is no certificate"
    else:
        return authority
    return ""


def authority_of(data: Mapping[str, str]) -> str:
    """The `ca.crt` of a Secret, PEM. Raises `CertificateError`."""
    try:
        found = base64.b64decode(data.get("ca.crt") or "", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise CertificateError("holds a ca.crt that is not base64 of PEM") from None
    if not found:
        raise CertificateError("has no ca.crt")
    return found


def shown(connection: ssl.SSLObject) -> ClientCertificate | None:
    """What the client has shown; None where its context asks for nothing."""
    auth = getattr(connection.context, "client_auth", None)
    if auth is None:
        return None
    der = connection.getpeercert(binary_form=True)
    if not der:
        return ClientCertificate(auth)
    pem = ssl.DER_cert_to_PEM_cert(der)
    subject, issuer = pki.names_of(pem.encode())
    return ClientCertificate(auth, subject, issuer, pem)


def expiry_problem(secret: Object, soon: timedelta = SOON) -> str:
    """Why a certificate that does load is no good: its time is over, or will be before `soon`.
    Empty while it is fine."""
    certificate = pair_of(secret).certificate
    left = pki.remaining(certificate)
    if left < timedelta(0):
        return f"holds a certificate that ended {(-left).days} days ago"
    begin, end = pki.validity(certificate)
    # One that lives for days only is renewed in its last days.
    if left < min(soon, (end - begin) / 3):
        hours = int(left.total_seconds() // 3600)
        return f"{ENDS} {f'{left.days} days' if left.days else f'{hours} hours'}"
    return ""


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
