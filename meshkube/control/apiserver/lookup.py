"""What admission may read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from meshkube.api.kinds import Kind
from meshkube.api.types import Object


class Lookup(Protocol):
    """Reads of the caches, at once. Objects are shared."""

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None: ...

    def all(self, kind: Kind) -> Iterable[Object]: ...

    def kind(self, api_version: str, kind: str) -> Kind | None:
        """A served kind by its names."""
        ...

    def inside(self, kind: Kind, namespace: str) -> Iterable[Object]:
        """Those of one namespace."""
        ...
