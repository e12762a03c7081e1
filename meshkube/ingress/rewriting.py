"""Paths with captures, as ingress-nginx documents them for its rewrites. Pure.

Of regular expressions only the forms that its documentation teaches are taken, as plain prefixes:
`/app(/|$)(.*)`, `/app/(.*)`, `/app/?(.*)` and `/app(.*)`. A general expression in the hands of
whoever may write an Ingress could hold up every request of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from meshkube.ingress import paths

_TAILS = ("(/|$)(.*)", "/?(.*)", "/(.*)", "(.*)")
_SPECIAL = re.compile(r"[][(){}|*+?^$\\]")
# `paths.normal` leaves an encoded slash as it is, and nothing else.
_PERCENT = re.compile("%(?!2F)")
_ODD = re.compile(r"(?i)//|/\.|%2e")


@dataclass(frozen=True, slots=True)
class Captures:
    """A rule's path that captures: what comes before the captures, and how they look."""

    prefix: str
    tail: str

    def values(self, path: str) -> tuple[str, str]:
        """`$1` and `$2` for a path."""
        rest = path[len(self.prefix) :]
        slash = rest[:1] if rest.startswith("/") else ""
        if self.tail == "(/|$)(.*)":
            return slash, rest.removeprefix("/")
        return (rest if self.tail == "(.*)" else rest.removeprefix("/")), ""


def captures(path: str) -> Captures | None:
    """The captures of a rule's path. None where it has none, or some that are not taken."""
    for tail in _TAILS:
        prefix = path.removesuffix(tail).rstrip("/")
        if path.endswith(tail) and _SPECIAL.search(prefix) is None:
            return Captures(prefix, tail)
    return None


def is_expression(path: str) -> bool:
    """Whether a path was meant as an expression that `captures` does not take."""
    return _SPECIAL.search(path) is not None and captures(path) is None


def rewritten(target: str, rewrite: str, found: Captures | None) -> str:
    """The target for the pod of a request for `target`: the query stays."""
    raw, mark, query = target.partition("?")
    prefix = found.prefix if found is not None else ""
    if _ODD.search(raw) or not raw.startswith(prefix):
        # Pods see what was matched, not what only looks like it.
        normal = _PERCENT.sub("%25", paths.normal(target))
        raw = quote(normal, safe="/%:@!$&'()*+,;=~-._", errors="surrogateescape")
    first, second = found.values(raw) if found is not None else ("", "")
    return rewrite.replace("$1", first).replace("$2", second) + mark + query
