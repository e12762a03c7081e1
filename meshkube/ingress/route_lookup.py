"""From a request as it came, a Host header and a target, to its route. Pure.

Hardly two requests have the same target, but most differ only beyond the depth of any rule: what
their paths begin with decides. So that is what is remembered, for each Host, and a path that was
never seen costs no more than one that comes all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from meshkube.ingress import paths
from meshkube.ingress.http1 import HeadError, host_name
from meshkube.ingress.route import Miss, Route
from meshkube.ingress.route_hosts import HostPaths

_HOSTS_KEPT = 1024
_BEGINNINGS_KEPT = 8192
_LONGEST_KEPT = 256
# Numbers, since a number is found in bytes five times as fast as a piece of bytes.
_PERCENT, _QUESTION = b"%?"


class _Known:
    """What is remembered of one Host."""

    __slots__ = ("depth", "exact", "routes")

    def __init__(self, candidates: Sequence[HostPaths]) -> None:
        self.depth = max((each.depth for each in candidates), default=0)
        self.exact: list[Mapping[str, object]] = [each.exact for each in candidates if each.exact]
        self.routes: dict[bytes, Route] = {}
        """By the first `depth` elements of a path, with the slash that follows."""


class RouteLookup:
    """Finds the routes of requests."""

    def __init__(
        self,
        candidates: Callable[[str], Sequence[HostPaths]],
        match: Callable[[str, str], Route | Miss],
    ) -> None:
        """What is to be remembered: which paths a request for a host may meet, and the route of a
        host and a normal path."""
        self._candidates = candidates
        self._match = match
        self._known: dict[bytes, _Known] = {}

    def forget(self) -> None:
        """A rule has changed. (A change of endpoints leaves routes as they are.)"""
        self._known.clear()

    def find(self, host: bytes, target: bytes) -> Route | Miss:
        """The route by the Host header and the target. Raises `HeadError`."""
        known = self._known.get(host)
        if known is None:
            known = self._learn(host)
        path = target[: target.index(b"?")] if _QUESTION in target else target
        if _PERCENT in path or path.find(b"//") >= 0 or path.find(b"/.") >= 0:
            return self._from_table(host, target)
        if known.exact:
            text = path.partition(b"#")[0].decode("latin-1")
            if any(text in each for each in known.exact):
                return self._from_table(host, target)
        end, left = 0, known.depth
        while left and end >= 0:
            end = path.find(b"/", end + 1)
            left -= 1
        beginning = path if end < 0 else path[: end + 1]
        return known.routes.get(beginning) or self._remember(known, host, target, beginning)

    def _remember(
        self, known: _Known, host: bytes, target: bytes, beginning: bytes
    ) -> Route | Miss:
        found = self._from_table(host, target)
        if isinstance(found, Route) and len(beginning) <= _LONGEST_KEPT:
            if len(known.routes) >= _BEGINNINGS_KEPT:
                known.routes.clear()
            known.routes[beginning] = found
        return found

    def _learn(self, host: bytes) -> _Known:
        if len(self._known) >= _HOSTS_KEPT:
            self._known.clear()
        known = self._known[host] = _Known(self._candidates(host_name(host)))
        return known

    def _from_table(self, host: bytes, target: bytes) -> Route | Miss:
        try:
            return self._match(host_name(host), paths.normal(target.decode("ascii")))
        except paths.BadPath as error:
            raise HeadError(400, str(error)) from None
