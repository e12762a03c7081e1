"""How large each ReplicaSet of a Deployment is to be: rolling updates, Recreate, scaling.

One call is one step: what it asks for is safe given what is *observed* (pods that exist, pods that
are available), and the next observation gives the next step. Pure numbers.

Source: the Deployment concept page ("Rolling update", "Proportional scaling").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Sizes = dict[str, int]
"""The wanted `spec.replicas` of a ReplicaSet, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The Deployment's own numbers; surge and unavailable are already resolved from percents."""

    replicas: int
    surge: int = 0
    unavailable: int = 0
    recreate: bool = False

    @property
    def largest(self) -> int:
        """Pods there may be at most."""
        return self.replicas + self.surge if self.replicas else 0

    @property
    def least(self) -> int:
        """Available pods there must be at least."""
        return max(self.replicas - self.unavailable, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """One ReplicaSet: its wanted and available pods."""

    name: str
    replicas: int
    available: int = 0
    pods: int = 0
    """That exist, in `status.replicas`."""
    desired_then: int | None = None
    """The Deployment's replicas when this was last sized; None: never."""
    largest_then: int | None = None
    """`Limits.largest` then."""


def scaled_since(limits: Limits, sets: Sequence[Sized]) -> bool:
    """True where the Deployment's replicas changed since its ReplicaSets were sized."""
    return any(s.replicas and s.desired_then not in (None, limits.replicas) for s in sets)


def scale(limits: Limits, new: Sized | None, old: Sequence[Sized]) -> Sizes:
    """Keeps the mix of ReplicaSets as it is and moves its sum to the Deployment's replicas: also
    for a paused one. `old` is oldest first."""
    everything = [*old, new] if new else list(old)
    sizes = {s.name: s.replicas for s in everything}
    active = [s for s in everything if s.replicas]
    if len(active) <= 1:
        only = active[0] if active else new or (old[-1] if old else None)
        if only is not None:
            sizes[only.name] = limits.replicas
        return sizes
    if new is not None and new.replicas == limits.replicas <= new.available:
        return sizes | {s.name: 0 for s in old}
    if not limits.recreate:
        sizes |= _proportional(limits, active)
    return sizes


def _proportional(limits: Limits, active: Sequence[Sized]) -> Sizes:
    """Shares what is to be added (or taken) by size; what rounding leaves goes to the largest."""
    total = sum(s.replicas for s in active)
    change = limits.largest - total
    newest_first = list(enumerate(active))[:: -1 if change > 0 else 1]
    ranked = [s for _, s in sorted(newest_first, key=lambda pair: -pair[1].replicas)]
    given = 0
    sizes: Sizes = {}
    for s in ranked:
        share = _share(limits, s)
        rest = change - given
        step = min(share, rest) if change > 0 else max(share, rest)
        # A share against the direction of the change would undo another's.
        step = max(step, 0) if change > 0 else min(step, 0)
        sizes[s.name] = s.replicas + step
        given += step
    if ranked and change != given:
        first = ranked[0].name
        sizes[first] = max(sizes[first] + change - given, 0)
    return sizes


def _share(limits: Limits, s: Sized) -> int:
    if limits.replicas == 0:
        return -s.replicas
    before = s.largest_then or s.replicas
    # Half up, as the Kubernetes controller rounds.
    return int(s.replicas * limits.largest / before + 0.5) - s.replicas


def roll(limits: Limits, new: Sized, old: Sequence[Sized]) -> Sizes:
    """The next step of a rolling update: up first; down only where nothing goes up."""
    sizes = {s.name: s.replicas for s in (*old, new)}
    total = sum(sizes.values())
    if new.replicas > limits.replicas:
        return sizes | {new.name: limits.replicas}
    room = limits.replicas + limits.surge - new.replicas - _there(old)
    up = min(limits.replicas - new.replicas, max(room, 0))
    if up > 0:
        return sizes | {new.name: new.replicas + up}
    return sizes | _down(limits, new, old, total)


def first_size(limits: Limits, old: Sequence[Sized]) -> int:
    """The size of a new ReplicaSet that does not exist yet."""
    if limits.recreate:
        return limits.replicas
    room = limits.replicas + limits.surge - _there(old)
    return max(0, min(limits.replicas, room))


def _there(old: Sequence[Sized]) -> int:
    """Pods that still take room: a ReplicaSet that was told to shrink has not done so yet."""
    return sum(max(s.replicas, s.pods) for s in old)


def _down(limits: Limits, new: Sized, old: Sequence[Sized], total: int) -> Sizes:
    coming = max(new.replicas - new.available, 0)
    room = total - limits.least - coming
    sizes: Sizes = {}
    if room <= 0:
        return sizes
    # Pods that are not available serve nobody: they go first, at no cost.
    for s in old:
        drop = min(room, max(s.replicas - s.available, 0))
        if drop > 0:
            sizes[s.name] = s.replicas - drop
            room -= drop
    spare = sum(min(s.available, s.replicas) for s in (*old, new)) - limits.least
    for s in old:
        now = sizes.get(s.name, s.replicas)
        drop = min(now, max(spare, 0), max(room, 0))
        if drop > 0:
            sizes[s.name] = now - drop
            spare -= drop
            room -= drop
    return sizes


def recreate(limits: Limits, new: Sized | None, old: Sequence[Sized], old_running: bool) -> Sizes:
    """Recreate: the old go to zero, and only once none of their pods runs is the new sized."""
    sizes = {s.name: 0 for s in old}
    if new is not None:
        waits = any(s.replicas for s in old) or old_running
        sizes[new.name] = new.replicas if waits else limits.replicas
    return sizes
