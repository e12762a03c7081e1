"""What a policy makes of one request, before any pod is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from meshkube.ingress import paths
from meshkube.ingress.annotation_values import Network
from meshkube.ingress.annotations import Policy
from meshkube.ingress.client_auth import REASONS, ClientAuth, ClientCertificate, refusal
from meshkube.ingress.http1 import field_value


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a policy looks at it."""

    client: str
    """The client's address."""
    https: bool
    host: str
    """As in its Host header."""
    target: str
    method: str = "GET"
    block: bytes = b""
    """Its header lines."""
    certificate: ClientCertificate | None = None

    def header(self, name: str) -> str:
        """The first value of a header; empty where there is none."""
        return field_value(self.block, name.encode()).decode("latin-1")

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty where there is none."""
        for each in self.header("cookie").split(";"):
            key, _, value = each.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The answer is to ask elsewhere."""

    status: int
    location: str
    lines: bytes = b""
    """Further header lines."""


@dataclass(frozen=True, slots=True)
class Denial:
    """The client may not have it."""

    status: int
    reason: str
    lines: bytes = b""
    """Header lines for the client."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that is no error of ours: header lines as a block, and a body."""

    status: int
    lines: bytes
    body: bytes = b""


Answer: TypeAlias = Redirect | Denial | Reply


@dataclass(frozen=True, slots=True)
class Passed:
    """A guard lets the request through."""

    lines: bytes = b""
    """Further header lines for the pod."""
    drop: frozenset[bytes] = frozenset()
    """Headers (in lower case) that the client has no say in."""
    for_client: bytes = b""
    """Header lines for the response."""


def decide(policy: Policy, asked: Asked, https_port: int) -> Redirect | Denial | None:
    """None where the request goes on to a pod."""
    if policy.closed:
        return Denial(503, f"not served unguarded: {policy.closed}")
    if (policy.allowed or policy.denied) and not _admitted(policy, asked.client):
        return Denial(403, f"clients at {asked.client} are not admitted")
    if policy.ssl_redirect and not asked.https:
        # 308 keeps the method and the body, as ingress-nginx does.
        return Redirect(308, f"https://{_with_port(asked.host, https_port)}{asked.target}")
    if policy.client_auth is not None:
        refused = _unauthenticated(policy.client_auth, asked)
        if refused is not None:
            return refused
    if policy.redirect:
        return Redirect(policy.redirect_code, _filled(policy.redirect, asked))
    if policy.app_root and paths.normal(asked.target) == "/":
        return Redirect(302, policy.app_root)
    return None


def _unauthenticated(auth: ClientAuth, asked: Asked) -> Redirect | Denial | None:
    status = refusal(auth, asked.certificate, asked.https)
    if status == 400 and auth.error_page:
        return Redirect(302, auth.error_page)
    return Denial(status, REASONS[status]) if status else None


def _admitted(policy: Policy, client: str) -> bool:
    if _address(client) is None or within(client, policy.denied):
        return False
    return not policy.allowed or within(client, policy.allowed)


def within(client: str, networks: Iterable[Network]) -> bool:
    """Whether a client's address is in one of these networks."""
    address = _address(client)
    return address is not None and any(_within(address, network) for network in networks)


def _within(address: IPv4Address | IPv6Address, network: Network) -> bool:
    return address.version == network.version and address in network


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _with_port(host: str, port: int) -> str:
    name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return name if port == 443 else f"{name}:{port}"


def _filled(template: str, asked: Asked) -> str:
    return (
        template.replace("$request_uri", asked.target)
        .replace("$scheme", "https" if asked.https else "http")
        .replace("$host", _with_port(asked.host, 443))
    )
