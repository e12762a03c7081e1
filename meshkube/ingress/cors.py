"""Pages of other origins: what the Fetch standard's CORS protocol asks of a server. Pure.

Preflights are answered here, and never reach a pod; what a pod says itself in Access-Control-*
headers is replaced.
"""

from __future__ import annotations

from functools import lru_cache

from meshkube.ingress.features import Cors
from meshkube.ingress.policies import Asked, Reply

HEADERS = frozenset(
    b"""access-control-allow-origin access-control-allow-credentials access-control-allow-methods
    access-control-allow-headers access-control-expose-headers access-control-max-age""".split()
)


def preflight(cors: Cors, asked: Asked) -> Reply | None:
    """The answer where the request is a preflight of an origin that is let in."""
    if asked.method != "OPTIONS" or not asked.header("access-control-request-method"):
        return None
    lines = headers(cors, asked)
    if not lines:
        return None
    methods = ", ".join(cors.methods)
    more = (
        f"Access-Control-Allow-Methods: {methods}\r\n"
        f"Access-Control-Allow-Headers: {', '.join(cors.headers)}\r\n"
        f"Access-Control-Max-Age: {cors.max_age}\r\n"
    )
    return Reply(204, lines + more.encode())


def headers(cors: Cors, asked: Asked) -> bytes:
    """The header lines for a response; empty where the request's origin is not let in."""
    origin = asked.header("origin")
    if not origin:
        return b""
    allowed = "*" if "*" in cors.origins else origin
    if allowed != "*" and not any(_same(each, origin) for each in cors.origins):
        return b""
    lines = f"Access-Control-Allow-Origin: {allowed}\r\n" + _common(cors)
    if allowed != "*":
        lines += "Vary: Origin\r\n"
    return lines.encode("latin-1")


@lru_cache(256)
def _common(cors: Cors) -> str:
    lines = "Access-Control-Allow-Credentials: true\r\n" if cors.credentials else ""
    if cors.exposed:
        lines += f"Access-Control-Expose-Headers: {', '.join(cors.exposed)}\r\n"
    return lines


def _same(rule: str, origin: str) -> bool:
    """Whether a rule takes an origin; `*.` in it stands for exactly one label."""
    rule, origin = rule.lower(), origin.lower()
    before, star, after = rule.partition("*")
    if not star:
        return rule == origin
    label = origin.removeprefix(before).removesuffix(after)
    return (
        origin.startswith(before)
        and origin.endswith(after)
        and len(origin) > len(before) + len(after)
        and "." not in label
        and "/" not in label
    )
