"""Which changes may let through what the API refused before: a quota with more room, a limit that
went, a namespace's policy, the account that was missing. Pure.

Whoever was refused is woken by them, and need not sit out its growing delay.
"""

from __future__ import annotations

from typing import Any, Final

from meshkube.api import kinds, meta, quantities
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

KINDS: Final = (kinds.RESOURCE_QUOTA, kinds.LIMIT_RANGE, kinds.NAMESPACE, kinds.SERVICE_ACCOUNT)
"""Whose changes these are."""


def opened(kind: Kind, old: Object | None, new: Object | None) -> str | None:
    """The namespace where more may be made after the change; None: nowhere."""
    obj = new or old or {}
    if kind is kinds.NAMESPACE:
        relabelled = old is not None and new is not None and meta.labels(old) != meta.labels(new)
        return meta.name(obj) if relabelled else None
    if kind is kinds.RESOURCE_QUOTA:
        more = new is None or (old is not None and _more_room(old, new))
    elif kind is kinds.LIMIT_RANGE:
        more = new is None or (old is not None and old.get("spec") != new.get("spec"))
    else:
        more = old is None
    return meta.namespace(obj) if more else None


def _more_room(old: Object, new: Object) -> bool:
    """Whether a limit rose or went, or less of something is used."""
    limits = _raised(_part(old, "spec", "hard"), _part(new, "spec", "hard"))
    counted = _raised(_part(old, "status", "hard"), _part(new, "status", "hard"))
    before, now = _part(old, "status", "used"), _part(new, "status", "used")
    begun = before.keys() != now.keys()
    return limits or counted or begun or _raised(now, before)


def _part(quota: Object, part: str, name: str) -> dict[str, Any]:
    return (quota.get(part) or {}).get(name) or {}


def _raised(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether an amount of `old` is higher in `new`, or there no more."""
    return any(
        name not in new or quantities.compare(new[name], amount) > 0 for name, amount in old.items()
    )
