"""What a request to a URL would meet, and why not the other rules: for `meshkube route explain`.

Pure. It asks the very table that the ingress serves from, so it cannot be of another opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from meshkube.api.types import Object
from meshkube.ingress import paths
from meshkube.ingress.explain_policy import features
from meshkube.ingress.policies import Asked, Denial, Redirect, decide
from meshkube.ingress.route import Miss, Route
from meshkube.ingress.routes import RouteTable
from meshkube.ingress.rules import most_exact, prefix_key

_SERVED = 5
_SHOWN = 20
"""Rules that lose, in full; the rest as a number."""


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL that the ingress looks at. Made by `parse`."""

    https: bool
    host: str
    target: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Lines for a person, each a pair of a heading and what it says."""

    lines: list[tuple[str, str]]
    served: bool
    """Whether a pod would get the request."""


def parse(text: str) -> Url:
    """Raises `ValueError` with one line."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        # Asked for: it raises where there is none such.
        _ = url.port
        # What a browser sends, and what Ingresses are written with.
        host = (url.hostname or "").rstrip(".")
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        raise ValueError(f"{text!r} is not a URL such as https://shop.example/user")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Url(url.scheme == "https", host.lower(), target)


def explain(
    table: RouteTable, url: Url, client: str, secret: Callable[[str], Object | None],
    pods: Mapping[str, str],
) -> Explanation:  # fmt: skip
    """`secret` finds a Secret by `namespace/name`; `pods` names the pod of an address."""
    try:
        path = paths.normal(url.target)
    except paths.BadPath as error:
        return Explanation([("request", f"is answered with 400: {error}")], served=False)
    lines = [("request", f"host {url.host}, path {path}")]
    found = table.match(url.host, path)
    if url.https:
        lines.append(("certificate", _certificate(table, url.host, secret)))
    if isinstance(found, Miss):
        lines.append(("rule", f"none, answered with 404: {found.reason}"))
        return Explanation([*lines, *_others(table, url.host, path, None)], served=False)
    lines.append(("rule", f"{found.rule} ({found.type}) of Ingress {found.ingress}"))
    decision = None
    if found.policy is not None:
        lines += features(found, secret)
        decision = decide(found.policy, Asked(client, url.https, url.host, url.target), 443)
    if isinstance(decision, Redirect):
        lines.append(("answer", f"{decision.status} to {decision.location}"))
    elif isinstance(decision, Denial):
        lines.append(("answer", f"{decision.status}: {decision.reason}"))
    else:
        lines += _backend(found, pods)
    fallback = found.fallback is not None and bool(found.fallback.backend.addresses)
    served = decision is None and (bool(found.backend.addresses) or fallback)
    return Explanation([*lines, *_others(table, url.host, path, found)], served)


def _certificate(table: RouteTable, host: str, secret: Callable[[str], Object | None]) -> str:
    hosts = table.tls()
    name = most_exact(host, hosts)
    if name is None:
        return "the ingress' own default one: no Ingress has tls for this host"
    wanted = hosts[name]
    demand = ""
    if wanted.client_auth is not None:
        mode = "demands" if wanted.client_auth.mode == "on" else "takes"
        demand = f"; it {mode} client certificates of Secret {wanted.client_auth.secret}"
    there = [key for key in wanted.secrets if secret(key) is not None]
    if not there:
        missing = f"Secret {wanted.secrets[0]} (for {name or 'every host'}), which does not exist: "
        return (missing if wanted.secrets else "") + "the default one" + demand
    return f"Secret {' and '.join(there)} (for {name or 'every host'}){demand}"


def _backend(route: Route, pods: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    backend = route.backend
    yield "service", str(backend)
    if not backend.addresses:
        if route.fallback is not None and route.fallback.backend.addresses:
            yield "endpoint", f"none ({backend.problem}): the default backend answers"
            yield from _backend(route.fallback, pods)
        else:
            yield "answer", f"503: {backend.problem}"
        return
    for address, port in backend.addresses[:_SERVED]:
        name = pods.get(address, "")
        yield "endpoint", f"{address}:{port}" + (f" (pod {name})" if name else "")
    if len(backend.addresses) > _SERVED:
        yield "endpoint", f"and {len(backend.addresses) - _SERVED} more"


def _others(
    table: RouteTable, host: str, path: str, winner: Route | None
) -> Iterator[tuple[str, str]]:
    losers = [route for route in table.routes if route is not winner]
    losers.sort(key=lambda route: (route.host != host, route.rule))
    for route in losers[:_SHOWN]:
        reason = _why_not(route, host, path, winner)
        yield "not", f"{route.rule} ({route.type}) of Ingress {route.ingress}: {reason}"
    if len(losers) > _SHOWN:
        yield "not", f"{len(losers) - _SHOWN} more rules"


def _why_not(route: Route, host: str, path: str, winner: Route | None) -> str:
    if not _host_takes(route.host, host):
        return f"it is for host {route.host}"
    if not _path_takes(route, path):
        return f"path {path} is not {'it' if route.type == 'Exact' else 'below it'}"
    if route.own.canary is not None:
        beside = winner is not None and route in winner.canaries
        return "it is a canary, see above" if beside else "it is a canary of no rule"
    if winner is None:
        return "another rule was closer"
    if winner.host != route.host:
        return f"host {winner.host} is more exact than {route.host or 'every host'}"
    if route.type == "Default":
        return "a default backend is for what no path takes"
    if (route.type, prefix_key(route.path)) == (winner.type, prefix_key(winner.path)):
        return f"Ingress {winner.ingress} is older"
    return f"{winner.path} ({winner.type}) is more exact"


def _host_takes(rule: str, host: str) -> bool:
    return rule in ("", host) or (rule.startswith("*.") and host.partition(".")[2] == rule[2:])


def _path_takes(route: Route, path: str) -> bool:
    if route.type == "Default":
        return True
    if route.type == "Exact":
        return route.path == path
    key = prefix_key(route.path)
    return path == key or path.startswith(key + "/") or not key
