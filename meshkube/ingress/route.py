"""One rule as requests meet it: where it leads, and all that can be said about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from meshkube.ingress.annotations import PLAIN, Policy
from meshkube.ingress.backends import Backend
from meshkube.ingress.rewriting import Captures
from meshkube.ingress.rules import PathType, prefix_key
from meshkube.ingress.stats import RouteStats

Place: TypeAlias = tuple[str, PathType, str]
"""Host, type and path of a rule."""


@dataclass(slots=True, eq=False)
class Route:
    """Where a request goes, and all that an error message needs to say why it could not."""

    ingress: str
    """`namespace/name`"""
    host: str
    path: str
    type: PathType
    backend: Backend
    age: tuple[str, str]
    """Creation time and key: the smaller one wins a conflict."""
    stats: RouteStats
    policy: Policy | None = None
    """None for plain proxying, and that is quicker."""
    captures: Captures | None = None
    own: Policy = PLAIN
    """What its own Ingress asks for: `policy`, but for canaries."""
    canaries: tuple[Route, ...] = ()
    """Routes of canary Ingresses that take a share of the requests, oldest first."""
    fallback: Route | None = None
    """The same rule with the backend of `default-backend`."""

    @property
    def rule(self) -> str:
        host = self.host or "*"
        return f"{host} default backend" if self.type == "Default" else f"{host}{self.path}"

    @property
    def namespace(self) -> str:
        return self.ingress.partition("/")[0]

    @property
    def place(self) -> Place:
        path = prefix_key(self.path) if self.type == "Prefix" else self.path
        return self.host, self.type, path

    @property
    def identity(self) -> tuple[str, ...]:
        """What stays the same when its Ingress changes elsewhere."""
        return self.host, self.path, self.type, str(self.backend)

    def __lt__(self, other: Route) -> bool:
        return self.age < other.age


@dataclass(frozen=True, slots=True)
class Miss:
    """No rule takes the request; `reason` says what came closest."""

    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """`loser` asks for what the older `winner` has (both `namespace/name`)."""

    loser: str
    winner: str
    host: str
    path: str
