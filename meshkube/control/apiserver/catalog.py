"""Which kinds are served: the built-in ones, and those of CustomResourceDefinitions."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshkube.api import errors, kinds
from meshkube.api.custom.definition import Definition, priority
from meshkube.api.kinds import Kind

log = logging.getLogger(__name__)


class Catalog:
    """Kinds by every name they are asked for. `generation` grows with every change: what is made
    of the catalog is kept as long as that stays."""

    def __init__(self) -> None:
        self.generation = 0
        self._definitions: dict[str, Definition] = {}
        self._by_plural: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {}
        self._followers: list[Callable[[], None]] = []
        self._rebuild()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Everything served, built-in kinds first, then by group; preferred versions first."""
        return self._kinds

    @property
    def custom(self) -> tuple[Kind, ...]:
        """The stored kind of every definition, served or not."""
        return tuple(one.stored for one in self._definitions.values())

    def by_plural(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind of a request path's group, version and resource."""
        found = kinds.by_plural(group, version, plural)
        return found if found is not None else self._by_plural.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """The kind of an object's `apiVersion` and `kind`."""
        found = kinds.by_kind(api_version, kind)
        return found if found is not None else self._by_kind.get((api_version, kind))

    def current(self, kind: Kind) -> Kind:
        """A kind as it is defined now, whenever the caller found it. Raises `ApiError` 404."""
        if kind.definition is None:
            return kind
        definition = self._definitions.get(kind.definition.name)
        if definition is not None:
            for one in (*definition.kinds, definition.stored):
                if one.version == kind.version:
                    return one
        raise errors.not_served()

    def definition(self, name: str) -> Definition | None:
        """By the name of the CustomResourceDefinition."""
        return self._definitions.get(name)

    def put(self, definition: Definition) -> None:
        self.replace({**self._definitions, definition.name: definition})

    def remove(self, name: str) -> None:
        if name in self._definitions:
            self.replace({key: one for key, one in self._definitions.items() if key != name})

    def replace(self, definitions: dict[str, Definition]) -> None:
        """All of them at once."""
        self._definitions = definitions
        self._rebuild()
        for follower in tuple(self._followers):
            follower()

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Calls it after every change, until what is returned is called. It must not block."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def _rebuild(self) -> None:
        custom = sorted(
            (kind for one in self._definitions.values() for kind in one.kinds),
            key=lambda kind: (kind.group, priority(kind.version), kind.plural),
        )
        self._by_plural = {(kind.group, kind.version, kind.plural): kind for kind in custom}
        self._by_kind = {(kind.api_version, kind.kind): kind for kind in custom}
        self._kinds = (*kinds.KINDS, *custom)
        self.generation += 1
