"""From what metrics ask for to what is done: how fast, how far, and how steadily. Pure.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", "Configurable scaling behavior";
reasons and messages are Kubernetes' own. Times are seconds of any steady clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

GROWTH: Final = 2
LEAST_GROWTH: Final = 4
"""Without rules of its own a target is at most doubled at a time, and may always grow to this."""

_WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_UP_RATE = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
)
_DOWN_RATE = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
)
_MOST = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_LEAST = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_STEADY_UP = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_STEADY_DOWN = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent"
    " recommendation",
)
Words = tuple[str, str]
"""A condition's reason and message."""


class Past(NamedTuple):
    """A number of replicas, or of replicas more or fewer, at a time."""

    replicas: int
    time: float


@dataclass(frozen=True, slots=True)
class History:
    """What was recommended, and by how much the target was changed."""

    recommendations: tuple[Past, ...] = ()
    added: tuple[Past, ...] = ()
    removed: tuple[Past, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An autoscaler's limits. `behavior` None: none of its own; `window` is the stabilisation of
    scaling down where nothing else is said."""

    least: int
    most: int
    behavior: Mapping[str, Any] | None = None
    window: float = 300.0

    def rules(self, direction: str) -> Mapping[str, Any]:
        return (self.behavior or {}).get(direction) or {}

    def window_of(self, direction: str) -> float:
        given = self.rules(direction).get("stabilizationWindowSeconds")
        if given is not None:
            return float(given)
        return self.window if direction == "scaleDown" else 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """How many replicas there should be, why (`able`), and whether a limit had a say (`limit`)."""

    replicas: int
    able: Words
    limited: bool
    limit: Words
    history: History = field(default_factory=History)


def settle(current: int, wanted: int, bounds: Bounds, history: History, now: float) -> Settled:
    """What becomes of `wanted` replicas where there are `current`."""
    steady, words = stabilised(current, wanted, bounds, history.recommendations, now)
    if bounds.behavior is None:
        allowed, limit = _by_default(current, steady, bounds)
    else:
        allowed, limit = _by_rules(current, steady, bounds, history, now)
    longest = max(bounds.window_of("scaleUp"), bounds.window_of("scaleDown"))
    kept = _since(history.recommendations, now - longest)
    recommendations = (*kept, Past(wanted, now))
    return Settled(
        allowed,
        words if steady != wanted else _READY,
        allowed != steady,
        limit,
        History(recommendations, history.added, history.removed),
    )


def stabilised(
    current: int, wanted: int, bounds: Bounds, recommendations: Iterable[Past], now: float
) -> tuple[int, Words]:
    """What the recommendations of late make of the newest one."""
    if bounds.behavior is None:
        since = now - bounds.window
        recent = [past.replicas for past in recommendations if past.time >= since]
        return max([wanted, *recent]), _STEADY_DOWN
    lowest, highest = wanted, wanted
    up, down = now - bounds.window_of("scaleUp"), now - bounds.window_of("scaleDown")
    for past in recommendations:
        if past.time > up:
            lowest = min(lowest, past.replicas)
        if past.time > down:
            highest = max(highest, past.replicas)
    steady = max(current, lowest)
    steady = min(steady, highest)
    return steady, _STEADY_UP if wanted >= current else _STEADY_DOWN


def _by_default(current: int, wanted: int, bounds: Bounds) -> tuple[int, Words]:
    fastest = max(GROWTH * current, LEAST_GROWTH)
    most, words = (fastest, _UP_RATE) if bounds.most > fastest else (bounds.most, _MOST)
    if wanted < bounds.least:
        return bounds.least, _LEAST
    return (most, words) if wanted > most else (wanted, _WITHIN)


def _by_rules(
    current: int, wanted: int, bounds: Bounds, history: History, now: float
) -> tuple[int, Words]:
    if wanted > current:
        fastest = max(current, _fastest_up(current, bounds.rules("scaleUp"), history, now))
        most, words = (fastest, _UP_RATE) if bounds.most > fastest else (bounds.most, _MOST)
        if wanted > most:
            return most, words
    elif wanted < current:
        fastest = min(current, _fastest_down(current, bounds.rules("scaleDown"), history, now))
        least, words = (fastest, _DOWN_RATE) if bounds.least < fastest else (bounds.least, _LEAST)
        if wanted < least:
            return least, words
    return wanted, _WITHIN


def _fastest_up(current: int, rules: Mapping[str, Any], history: History, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    proposed = []
    for policy in rules.get("policies") or ():
        start = _at_start(current, policy, history, now)
        if policy["type"] == "Pods":
            proposed.append(start + int(policy["value"]))
        else:
            proposed.append(math.ceil(start * (100 + int(policy["value"])) / 100))
    if not proposed:
        return current
    return min(proposed) if rules.get("selectPolicy") == "Min" else max(proposed)


def _fastest_down(current: int, rules: Mapping[str, Any], history: History, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    proposed = []
    for policy in rules.get("policies") or ():
        start = _at_start(current, policy, history, now)
        if policy["type"] == "Pods":
            proposed.append(start - int(policy["value"]))
        else:
            proposed.append(int(start * (100 - int(policy["value"])) / 100))
    if not proposed:
        return current
    return max(proposed) if rules.get("selectPolicy") == "Min" else min(proposed)


def _at_start(current: int, policy: Mapping[str, Any], history: History, now: float) -> int:
    """The replicas that there were when a policy's period began."""
    since = now - float(policy["periodSeconds"])
    added = sum(past.replicas for past in _since(history.added, since))
    removed = sum(past.replicas for past in _since(history.removed, since))
    return current - added + removed


def _since(past: Iterable[Past], time: float) -> tuple[Past, ...]:
    return tuple(one for one in past if one.time > time)


def changed(history: History, before: int, after: int, bounds: Bounds, now: float) -> History:
    """The history once the target was changed. Without rules nobody asks for it later."""
    if bounds.behavior is None or before == after:
        return history
    policies = [
        policy
        for direction in ("scaleUp", "scaleDown")
        for policy in bounds.rules(direction).get("policies") or ()
    ]
    since = now - max((float(policy["periodSeconds"]) for policy in policies), default=0.0)
    added, removed = _since(history.added, since), _since(history.removed, since)
    if after > before:
        added = (*added, Past(after - before, now))
    else:
        removed = (*removed, Past(before - after, now))
    return History(history.recommendations, added, removed)
