"""Priority levels: requests of one kind never wait for those of another.

As in Kubernetes' API priority and fairness ("API Priority and Fairness", the suggested
configuration): each level has places of its own, and within it each user has its turn. So a node's
heartbeat and a person's `kubectl` do not wait while a hundred nodes report ten thousand pods.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.control.apiserver.fairness import Fairness
from meshkube.control.auth.users import NODES, User

_HEARTBEATS = frozenset({kinds.LEASE, kinds.NODE})


class Level(Enum):
    """What a write is about, or whose it is; its value: how many of the level are under way.

    More would make answers later, not more of them; fewer, smaller commits."""

    LIVES = "lives", 16
    """That a node, a controller or a leader is alive."""
    PEOPLE = "people", 16
    """Whoever is no part of the cluster: kubectl, and other people's controllers."""
    NODES = "nodes", 16
    NODE_EVENTS = "node-events", 2
    """What may come late: it waits at the node."""
    CONTROLLERS = "controllers", 8
    """What the parts of a server write themselves, in its process."""
    EVENTS = "events", 6
    """Theirs too. They keep pace with what they tell of, as few of them can wait."""


def level_of(kind: Kind, user: User | None, *, inside: bool) -> Level:
    """Of a write by `user` (None: the server itself); `inside`: by a part in this process."""
    of_node = user is not None and NODES in user.groups
    if not inside and not of_node:
        return Level.PEOPLE
    if kind in _HEARTBEATS:
        return Level.LIVES
    if kind is kinds.EVENT:
        return Level.NODE_EVENTS if of_node else Level.EVENTS
    return Level.NODES if of_node else Level.CONTROLLERS


def _nothing() -> None:
    """No place was taken."""


class Levels:
    """The places of every level."""

    def __init__(self) -> None:
        self._fairness = {level: Fairness(level.value[1]) for level in Level}

    async def enter(
        self, kind: Kind, user: User | None, *, inside: bool = False
    ) -> Callable[[], None]:
        """Waits for a place for a write of one object; what is returned gives it back."""
        if inside and kind.definition is not None:
            return _nothing  # other people's webhooks may convert it: no place waits for these
        name = user.name if user is not None else ""
        if kind in _HEARTBEATS:
            name += " lives"
        return await self._fairness[level_of(kind, user, inside=inside)].enter(name)
