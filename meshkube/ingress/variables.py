"""nginx' variables in annotations, as far as they say something about a request. Pure.

A text with variables is split once, and filled for each request from a mapping of getters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from meshkube.api.custom.patterns import compiled
from meshkube.ingress.annotation_values import Invalid

if TYPE_CHECKING:
    from meshkube.ingress.policies import Asked

_VARIABLE = re.compile(r"\$\{?([a-z_][a-z0-9_]*)\}?")
_BY_NAME = ("http_", "cookie_", "arg_")


def template(text: str) -> str:
    """Reads the value of an annotation: text with variables that we know."""
    names = _VARIABLE.findall(text)
    strange = [name for name in names if name not in _GETTERS and not _named(name)]
    if not text or strange or "$" in _VARIABLE.sub("", text) or not text.isprintable():
        unknown = f" (not ${strange[0]})" if strange else ""
        raise Invalid(f"is not text with variables that are supported{unknown}")
    return text


def expression(text: str) -> str:
    """Reads the value of an annotation: a regular expression, matched in linear time."""
    try:
        compiled(text)
    except ValueError as error:
        raise Invalid(f"is not a regular expression of RE2: {error}") from None
    return text


def filled(text: str, asked: Asked) -> str:
    """The text for one request."""
    return "".join(part if get is None else get(asked, part) for part, get in _split(text))


@lru_cache(1024)
def _split(text: str) -> tuple[tuple[str, Callable[[Asked, str], str] | None], ...]:
    parts: list[tuple[str, Callable[[Asked, str], str] | None]] = []
    at = 0
    for match in _VARIABLE.finditer(text):
        parts.append((text[at : match.start()], None))
        name = match[1]
        known = _GETTERS.get(name)
        if known is not None:
            parts.append(("", known))
        else:
            kind, _, rest = name.partition("_")
            parts.append((rest, _NAMED[kind]))
        at = match.end()
    parts.append((text[at:], None))
    return tuple(part for part in parts if part[0] or part[1])


def _named(name: str) -> bool:
    return any(name.startswith(kind) and len(name) > len(kind) for kind in _BY_NAME)


def _uri(asked: Asked, _: str) -> str:
    return asked.target.partition("?")[0]


def _query(asked: Asked, _: str) -> str:
    return asked.target.partition("?")[2]


def _host_alone(asked: Asked, _: str) -> str:
    host = asked.host
    return (
        host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    ).lower()


def _argument(asked: Asked, name: str) -> str:
    for pair in asked.target.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return ""


_GETTERS: dict[str, Callable[[Asked, str], str]] = {
    "request_uri": lambda asked, _: asked.target,
    "escaped_request_uri": lambda asked, _: quote(asked.target, safe=""),
    "uri": _uri,
    "args": _query,
    "query_string": _query,
    "host": _host_alone,
    "http_host": lambda asked, _: asked.host,
    "remote_addr": lambda asked, _: asked.client,
    "binary_remote_addr": lambda asked, _: asked.client,
    "the_real_ip": lambda asked, _: asked.client,
    "scheme": lambda asked, _: "https" if asked.https else "http",
    "request_method": lambda asked, _: asked.method,
}
_NAMED: dict[str, Callable[[Asked, str], str]] = {
    "http": lambda asked, name: asked.header(name.replace("_", "-")),
    "cookie": lambda asked, name: asked.cookie(name),
    "arg": _argument,
}
