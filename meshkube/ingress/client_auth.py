"""Certificates of clients: who must show one, and what pods are told of it. Pure.

The annotations and headers are those of ingress-nginx (`auth-tls-…`, `ssl-client-…`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from meshkube.ingress.pod_annotations import PREFIX, Invalid, read, secret_key

_URL = re.compile(r"https?://[!-~]+")
_OURS = re.compile(rb"(?i)ssl[-_]client[-_](?:verify|subject[-_]dn|issuer[-_]dn|cert)")

Mode = Literal["on", "optional"]


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """What an Ingress asks of the clients of its hosts."""

    secret: str = ""
    """`namespace/name` of the Secret with the authority (`ca.crt`) of their certificates."""
    mode: Mode = "on"
    """`optional`: also clients without one are served."""
    depth: int = 1
    """How many authorities may be between."""
    error_page: str = ""
    """Where clients without one are sent."""
    pass_on: bool = False
    """Whether pods get the certificate itself."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a client has shown, and what it was verified against."""

    authority: ClientAuth
    subject: str = ""
    """As RFC 4514 writes names; empty: it has shown none."""
    issuer: str = ""
    pem: str = ""


def _mode(text: str, _: str) -> str:
    if text not in ("on", "off", "optional"):
        raise Invalid("is not supported (only on, off, optional)")
    return text


def _depth(text: str, _: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        raise Invalid("is not a number of authorities, 0 to 100")
    return int(text)


def _page(text: str, _: str) -> str:
    if _URL.fullmatch(text) is None:
        raise Invalid("is not a URL")
    return text


def _flag(text: str, _: str) -> bool:
    if text not in ("true", "false"):
        raise Invalid('is not "true" or "false"')
    return text == "true"


TABLE: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "auth-tls-secret": ("secret", secret_key),
    "auth-tls-verify-client": ("mode", _mode),
    "auth-tls-verify-depth": ("depth", _depth),
    "auth-tls-error-page": ("error_page", _page),
    "auth-tls-pass-certificate-to-upstream": ("pass_on", _flag),
}


def client_auth(
    annotations: Mapping[str, str], namespace: str
) -> tuple[ClientAuth | None, list[str]]:
    """What an Ingress asks for, and what is wrong with how it does. Where something is, the result
    names no Secret: nobody can show a certificate then, which is better than to serve all."""
    values, wrong = read(annotations, namespace, TABLE)
    if wrong:
        return ClientAuth(), wrong
    if values.get("mode") == "off" or not values:
        return None, wrong
    if "secret" not in values:
        return ClientAuth(), [f"{PREFIX}auth-tls-…: there is no auth-tls-secret"]
    return ClientAuth(**values), wrong


def refusal(auth: ClientAuth, certificate: ClientCertificate | None, https: bool) -> int:
    """The status for a request that may not have what `auth` guards, 0 where it may. `certificate`
    is what its connection was asked for, None where that was nothing."""
    if not auth.secret:
        return 503
    if not https:
        return 403
    if certificate is None or certificate.authority.secret != auth.secret:
        # The connection was made for another host (RFC 9110, section 15.5.20).
        return 421
    if auth.mode == "on" and not certificate.subject:
        return 400
    return 0


REASONS = {
    400: "no client certificate was sent, and this host demands one",
    403: "this host demands a client certificate, and so HTTPS",
    503: "not served unguarded: what its annotations auth-tls-… say cannot be used",
    421: "this host demands a client certificate, and the connection was made for another host",
}


def told(block: bytes, auth: ClientAuth, certificate: ClientCertificate | None) -> bytes:
    """A block of header lines for a pod, with what it is to know about the client's certificate,
    and nothing that the client says about it."""
    lines = [
        line for line in block.split(b"\r\n") if _OURS.fullmatch(line.partition(b":")[0]) is None
    ]
    shown = certificate if certificate is not None and certificate.subject else None
    facts = [("ssl-client-verify", "SUCCESS" if shown else "NONE")]
    if shown:
        facts += [("ssl-client-subject-dn", shown.subject), ("ssl-client-issuer-dn", shown.issuer)]
        if auth.pass_on:
            facts.append(("ssl-client-cert", quote(shown.pem, safe="")))
    own = [f"{name}: {_printable(value)}".encode() for name, value in facts]
    return b"\r\n".join((*own, *lines))


def _printable(value: str) -> str:
    """A name may hold anything, a header may not."""
    return "".join(c if " " <= c <= "~" else quote(c) for c in value)
