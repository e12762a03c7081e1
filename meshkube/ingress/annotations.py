"""The annotations that people already have on their Ingresses, as one table. Pure.

Names and meaning are those of ingress-nginx (`nginx.ingress.kubernetes.io/…`); docs/ingress.md says
where ours differs. What is not in the table is not supported, and said so, never ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from meshkube.ingress import pod_annotations

PREFIX = "nginx.ingress.kubernetes.io/"

Network: TypeAlias = IPv4Network | IPv6Network

_SIZE = re.compile(r"(\d{1,15})([kKmMgG]?)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_URL = re.compile(r"https?://[!-~]+")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[0-9A-Za-z._-]+(?::\d{1,5})?")
_VARIABLE = re.compile(r"\$(?!(?:request_uri|host|scheme)\b)")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the annotations of an Ingress ask for beyond plain proxying."""

    ssl_redirect: bool = False
    """From HTTP to HTTPS, for hosts with TLS."""
    force_ssl_redirect: bool = False
    """The same, for every host."""
    redirect: str = ""
    """Everything goes there; holds `$request_uri`, `$host`, `$scheme`."""
    redirect_code: int = 301
    app_root: str = ""
    """Where `/` is redirected to."""
    rewrite: str = ""
    """The path for the pod, with `$1`, `$2` for what the rule's path captures."""
    upstream_host: str = ""
    """The Host that the pod gets."""
    max_body: int | None = None
    """In bytes; 0: no limit; None: the ingress' own."""
    read_timeout: float | None = None
    """Seconds without a byte from the pod; None: the ingress' own."""
    send_timeout: float | None = None
    """Seconds without progress of the request's body; None: the ingress' own."""
    allowed: tuple[Network, ...] = ()
    """Clients that are served; empty: all."""
    denied: tuple[Network, ...] = ()
    closed: str = ""
    """Why nobody is served: something was to guard this Ingress, and does not."""


PLAIN = Policy()


class _Invalid(ValueError):
    """A value that cannot be used: the message says what it should be."""


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise _Invalid('is not "true" or "false"')
    return text == "true"


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _Invalid("is not a size such as 512k, 8m or 0")
    return int(match[1]) * _UNITS[match[2].lower()]


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise _Invalid("is not a number of seconds")
    return float(text)


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in text.split(","))
    except ValueError:
        raise _Invalid("is not a list of networks such as 10.0.0.0/8,192.0.2.1") from None


def _url(text: str) -> str:
    if _URL.fullmatch(text) is None or _VARIABLE.search(text):
        raise _Invalid("is not a URL; of variables, $request_uri, $host and $scheme are known")
    return text


def _path(text: str) -> str:
    if _PATH.fullmatch(text) is None:
        raise _Invalid("is not a path")
    return text


def _rewrite(text: str) -> str:
    if re.search(r"\$(?![12](?!\d))", _path(text)):
        raise _Invalid("is not a path with no captures but $1 and $2")
    return text


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise _Invalid("is not a host name")
    return text


def _code(text: str) -> int:
    if text not in ("301", "302", "303", "307", "308"):
        raise _Invalid("is not a status of a redirect")
    return int(text)


def _only(*values: str) -> Callable[[str], None]:
    """For what we do in any case: other values are not supported."""

    def check(text: str) -> None:
        if text not in values:
            raise _Invalid(f"is not supported (only {', '.join(values)})")

    return check


# Annotation -> field of the policy (empty: nothing follows from it), and who reads the value.
TABLE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "ssl-redirect": ("ssl_redirect", _flag),
    "force-ssl-redirect": ("force_ssl_redirect", _flag),
    "temporal-redirect": ("redirect", _url),
    "permanent-redirect": ("redirect", _url),
    "temporal-redirect-code": ("redirect_code", _code),
    "permanent-redirect-code": ("redirect_code", _code),
    "app-root": ("app_root", _path),
    "rewrite-target": ("rewrite", _rewrite),
    "upstream-vhost": ("upstream_host", _host),
    "proxy-body-size": ("max_body", _size),
    "proxy-read-timeout": ("read_timeout", _seconds),
    "proxy-send-timeout": ("send_timeout", _seconds),
    "whitelist-source-range": ("allowed", _networks),
    "allowlist-source-range": ("allowed", _networks),
    "denylist-source-range": ("denied", _networks),
    "use-regex": ("", _only("true", "false")),
    "proxy-http-version": ("", _only("1.1")),
    "proxy-buffering": ("", _only("off")),
    "proxy-request-buffering": ("", _only("off")),
}


def policy(annotations: Mapping[str, str]) -> Policy:
    """What can be used of the annotations."""
    return _read(annotations)[0]


def problems(annotations: Mapping[str, str]) -> list[str]:
    """What cannot be used of the annotations, and why, in a person's words."""
    return _read(annotations)[1]


def _read(annotations: Mapping[str, str]) -> tuple[Policy, list[str]]:
    given = {
        name.removeprefix(PREFIX): str(value).strip()
        for name, value in annotations.items()
        if name.startswith(PREFIX)
    }
    if not given:
        return PLAIN, []
    unknown = sorted(given.keys() - TABLE.keys() - pod_annotations.TABLE.keys())
    wrong = [f"{PREFIX}{name} is not supported" for name in unknown]
    values: dict[str, Any] = {}
    # To serve without the guard that was asked for would be worse than not to serve.
    guards = [f"{PREFIX}{name} is not supported" for name in unknown if name.startswith("auth-")]
    if "temporal-redirect" in given and "permanent-redirect" not in given:
        values["redirect_code"] = 302
    for name, (target, read) in TABLE.items():
        if name not in given:
            continue
        try:
            value = read(given[name])
        except _Invalid as error:
            wrong.append(f"{PREFIX}{name}: {given[name]!r} {error}")
            guards += wrong[-1:] if target in ("allowed", "denied") else []
            continue
        if target:
            values[target] = value
    return Policy(**values, closed=guards[0] if guards else ""), wrong
