"""The paths of every host, and which of them a request meets. Pure.

A lookup costs one dictionary get per element of the longest path known for the host. Precedence
(Kubernetes' "Ingress" page, "Multiple matches" and "Hostname wildcards"): an exact host, then a
wildcard, then rules without a host; within each the longest path, Exact before Prefix.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from meshkube.ingress.route import Miss, Place, Route
from meshkube.ingress.rules import PathType, prefix_key

_HOSTS_KEPT = 1024


@dataclass(slots=True)
class HostPaths:
    """The paths of one host. Each holds its claims, oldest first; the first is the route."""

    exact: dict[str, list[Route]] = field(default_factory=dict)
    prefix: dict[str, list[Route]] = field(default_factory=dict)
    default: list[Route] = field(default_factory=list)
    depth: int = 0
    """Elements of the longest prefix so far: no deeper part of a request's path can match."""

    def claims(self, type: PathType, path: str) -> list[Route]:
        if type == "Exact":
            return self.exact.setdefault(path, [])
        if type == "Prefix":
            key = prefix_key(path)
            self.depth = max(self.depth, key.count("/"))
            return self.prefix.setdefault(key, [])
        return self.default

    def held(self, type: PathType, path: str) -> list[Route]:
        """The claims for a path as they stand; nothing is made for one without."""
        if type == "Exact":
            return self.exact.get(path, [])
        return self.prefix.get(prefix_key(path), []) if type == "Prefix" else self.default

    def forget(self, route: Route) -> None:
        if route.type == "Default":
            self.default.remove(route)
            return
        paths, key = (
            (self.exact, route.path)
            if route.type == "Exact"
            else (self.prefix, prefix_key(route.path))
        )
        paths[key].remove(route)
        if not paths[key]:
            del paths[key]

    def find(self, path: str) -> Route | None:
        claims = self.exact.get(path)
        if claims:
            return claims[0]
        if not self.prefix:
            return None
        elements = path.split("/", self.depth + 1)
        if len(elements) > self.depth + 1:
            elements.pop()
        head = "/".join(elements)
        while True:
            claims = self.prefix.get(head)
            if claims:
                return claims[0]
            if not head:
                return None
            head = head[: head.rindex("/")] if "/" in head else ""

    @property
    def empty(self) -> bool:
        return not (self.exact or self.prefix or self.default)


class Hosts:
    """The claims of every rule, by host and path."""

    def __init__(self) -> None:
        self._hosts: dict[str, HostPaths] = {}
        self._known: dict[str, list[HostPaths]] = {}
        """Which of them a request for a host may meet. Emptied when a rule changes."""

    def claim(self, route: Route) -> None:
        """A rule's route takes its place among those for the same host and path."""
        paths = self._hosts.setdefault(route.host, HostPaths())
        insort(paths.claims(route.type, route.path), route)
        self._known.clear()

    def forget(self, route: Route) -> None:
        """The rule is gone."""
        paths = self._hosts[route.host]
        paths.forget(route)
        if paths.empty:
            del self._hosts[route.host]
        self._known.clear()

    def claims(self, place: Place) -> list[Route]:
        """Those for a host and path, oldest first: the first one has it."""
        host, type, path = place
        paths = self._hosts.get(host)
        return paths.held(type, path) if paths is not None else []

    def match(self, host: str, path: str) -> Route | Miss:
        """The route of a request: `host` in lower case without port, `path` as `paths.normal`
        makes it."""
        candidates = self.candidates(host)
        for candidate in candidates:
            route = candidate.find(path)
            if route is not None:
                return route
        for candidate in candidates:
            if candidate.default:
                return candidate.default[0]
        if candidates:
            return Miss(f"no path of host {host or '*'} matches {path}")
        return Miss(f"no Ingress has a rule for host {host or '(none given)'}")

    def candidates(self, host: str) -> list[HostPaths]:
        """The paths that a request for a host may meet, in the order in which they count."""
        candidates = self._known.get(host)
        if candidates is None:
            candidates = self._candidates(host)
            if len(self._known) >= _HOSTS_KEPT:
                self._known.clear()
            self._known[host] = candidates
        return candidates

    def _candidates(self, host: str) -> list[HostPaths]:
        hosts = self._hosts
        found = [hosts[host]] if host and host in hosts else []
        # A wildcard stands for exactly one label.
        dot = host.find(".")
        if dot > 0 and (wildcard := hosts.get("*" + host[dot:])) is not None:
            found.append(wildcard)
        if (anyone := hosts.get("")) is not None:
            found.append(anyone)
        return found
