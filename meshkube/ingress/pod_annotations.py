"""The annotations that say how pods are spoken to. Pure.

Names and meaning are those of ingress-nginx, as in `annotations`. A Secret may only be one of the
Ingress' own namespace: who may write an Ingress there may not use another's keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from meshkube.ingress.via import PodTls, Via

PREFIX = "nginx.ingress.kubernetes.io/"

_PROTOCOLS = {
    "HTTP": (False, False),
    "HTTPS": (False, True),
    "HTTP2": (True, False),
    "GRPC": (True, False),
    "GRPCS": (True, True),
}
_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]{0,251}[0-9A-Za-z])?")
_SECRET = re.compile(r"(?:([a-z0-9-]+)/)?([a-z0-9][a-z0-9.-]*)")


class Invalid(ValueError):
    """A value that cannot be used: the message says what it should be."""


def secret_key(text: str, namespace: str) -> str:
    """`namespace/name` of a Secret, named with or without its namespace. Raises `Invalid`."""
    match = _SECRET.fullmatch(text)
    if match is None:
        raise Invalid("is not the name of a Secret")
    if match[1] not in (None, namespace):
        raise Invalid(f"is in another namespace than the Ingress, {namespace}")
    return f"{namespace}/{match[2]}"


def _protocol(text: str, _: str) -> tuple[bool, bool]:
    if text.upper() not in _PROTOCOLS:
        raise Invalid(f"is not supported (only {', '.join(_PROTOCOLS)})")
    return _PROTOCOLS[text.upper()]


def switch(text: str, _: str) -> bool:
    """`on` or `off`. Raises `Invalid`."""
    if text not in ("on", "off"):
        raise Invalid('is not "on" or "off"')
    return text == "on"


def _name(text: str, _: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise Invalid("is not a host name")
    return text.lower()


TABLE: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "backend-protocol": ("protocol", _protocol),
    "proxy-ssl-secret": ("secret", secret_key),
    "proxy-ssl-verify": ("verify", switch),
    "proxy-ssl-name": ("name", _name),
    "proxy-ssl-server-name": ("send_name", switch),
}


def read(
    annotations: Mapping[str, str],
    namespace: str,
    table: Mapping[str, tuple[str, Callable[[str, str], Any]]],
) -> tuple[dict[str, Any], list[str]]:
    """The values of those of a table that are there and sound, and what is wrong with others."""
    values: dict[str, Any] = {}
    wrong = []
    for name, (target, take) in table.items():
        text = annotations.get(PREFIX + name)
        if text is None:
            continue
        try:
            values[target] = take(str(text).strip(), namespace)
        except Invalid as error:
            wrong.append(f"{PREFIX}{name}: {text!r} {error}")
    return values, wrong


def via(annotations: Mapping[str, str], namespace: str) -> tuple[Via | None, list[str]]:
    """How an Ingress wants its pods spoken to (None: as their Service says), and what is wrong
    with how it says so. What cannot be used among the settings of TLS gives no `Via` less
    guarded than asked for: `verify` without its Secret trusts nobody."""
    values, wrong = read(annotations, namespace, TABLE)
    if "protocol" not in values:
        return None, wrong
    http2, tls = values.pop("protocol")
    if wrong:
        values |= {"secret": values.get("secret") or f"{namespace}/", "verify": True}
    return Via(http2, PodTls(**values) if tls else None), wrong
