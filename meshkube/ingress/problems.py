"""What a client is told when a request cannot be served: a page or a JSON problem. Pure.

The JSON form is RFC 9457's problem detail with our own members beside the standard ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from http import HTTPStatus

import orjson

from meshkube.ingress.route import Route


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request failed. `route` is the rule it had matched, if any."""

    status: int
    reason: str
    route: Route | None = None
    lines: bytes = b""
    """Further header lines for the client."""

    @property
    def title(self) -> str:
        return phrase(self.status).decode()

    def facts(self) -> dict[str, str]:
        """The rule and the Service that the reason is about."""
        if self.route is None:
            return {}
        facts = {"ingress": self.route.ingress, "rule": self.route.rule}
        if self.route.backend.service:
            facts |= {"service": self.route.backend.key, "port": str(self.route.backend.port)}
        return facts


def phrase(status: int) -> bytes:
    """What HTTP calls a status; a pod may have made up its own."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Error" if status >= 400 else b""


def render(problem: Problem, request_id: str, accept: bytes) -> tuple[bytes, bytes]:
    """`(content type, body)` in the form that the client's Accept header asks for."""
    wanted = accept.lower()
    if b"text/html" in wanted and b"json" not in wanted.partition(b"text/html")[0]:
        return b"text/html; charset=utf-8", _html(problem, request_id)
    if b"json" in wanted or not wanted or b"*/*" in wanted:
        return b"application/problem+json", _json(problem, request_id)
    if b"text/*" in wanted:
        return b"text/html; charset=utf-8", _html(problem, request_id)
    return b"application/problem+json", _json(problem, request_id)


def _json(problem: Problem, request_id: str) -> bytes:
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.reason,
        **problem.facts(),
        "requestId": request_id,
    }
    return orjson.dumps(_printable(body)) + b"\n"


def _printable(body: dict[str, object]) -> dict[str, object]:
    return {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in body.items()
    }


def _html(problem: Problem, request_id: str) -> bytes:
    facts = {**problem.facts(), "request id": request_id}
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    title = f"{problem.status} {problem.title}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font-family:sans-serif;max-width:42em;margin:4em auto;padding:0 1em}"
        "th{text-align:left;padding-right:1em;font-weight:normal;color:#666}</style></head>"
        f"<body><h1>{title}</h1><p>{escape(problem.reason)}</p><table>{rows}</table>"
        "<p><small>meshkube ingress</small></p></body></html>\n"
    )
    return page.encode("utf-8", "replace")
