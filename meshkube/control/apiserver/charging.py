"""ResourceQuotas at the moment something is made: charged before the write, refused where full.

Pure. As in Kubernetes the charge is part of the quota's status, so it holds whoever writes next; a
controller counts again and gives back what was charged for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from meshkube.api import errors, kinds, meta, quantities
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import amounts, quota
from meshkube.control.amounts import Amounts


def concerned(kind: Kind, obj: Object, quotas: Iterable[Object]) -> list[Object]:
    """The quotas that an object falls under. Raises `ApiError` 403 where one wants the object to
    say what it needs, or has not been counted yet."""
    found = []
    for each in quotas:
        hard = _hard(each)
        if quota.limits(kind, hard) and quota.matches(each, kind, obj):
            _check_named(kind, obj, each, hard)
            found.append(each)
    return found


def uncounted(kind: Kind, obj: Object, quotas: Iterable[Object]) -> bool:
    """Whether a quota that the object falls under has not been counted yet."""
    return any(
        _unknown(each, hard)
        for each in quotas
        if quota.limits(kind, hard := _hard(each)) and quota.matches(each, kind, obj)
    )


def _unknown(found: Object, hard: Mapping[str, Any]) -> list[str]:
    used = (found.get("status") or {}).get("used") or {}
    return sorted(name for name in hard if name not in used)


def _hard(found: Object) -> Mapping[str, Any]:
    hard = (found.get("status") or {}).get("hard") or (found.get("spec") or {}).get("hard")
    return hard or {}


def _check_named(kind: Kind, obj: Object, found: Object, hard: Mapping[str, Any]) -> None:
    missing = quota.unnamed(obj, sorted(hard)) if kind is kinds.POD else {}
    if missing:
        wanted = "; ".join(f"{name} for: {','.join(each)}" for name, each in missing.items())
        raise _refused(kind, obj, f"failed quota: {meta.name(found)}: must specify {wanted}")
    unknown = _unknown(found, hard)
    if unknown:
        names = ",".join(unknown)
        raise _refused(
            kind, obj, f"status unknown for quota: {meta.name(found)}, resources: {names}"
        )


def charged(
    kind: Kind, obj: Object, found: Object, now: datetime, old: Object | None = None
) -> Object | None:
    """The quota with what the object uses (more than `old` did) added; None where that is nothing.
    Raises `ApiError` 403 where it would be exceeded."""
    hard, status = _hard(found), found.get("status") or {}
    delta = _delta(quota.usage(kind, obj, now), quota.usage(kind, old, now) if old else {})
    delta = {name: amount for name, amount in delta.items() if name in hard}
    if not delta:
        return None
    used = {name: str(amount) for name, amount in (status.get("used") or {}).items()}
    new = amounts.add(dict(used), delta)
    over = sorted(name for name in delta if quantities.compare(new[name], hard[name]) > 0)
    if over:
        parts = (("requested", delta), ("used", used), ("limited", hard))
        told = ", ".join(f"{word}: {_shown(amounts_, over)}" for word, amounts_ in parts)
        raise _refused(kind, obj, f"exceeded quota: {meta.name(found)}, {told}")
    return {**found, "status": {**status, "used": new}}


def _delta(new: Amounts, old: Amounts) -> Amounts:
    """What more is used, by resource."""
    more: Amounts = {}
    for name, amount in new.items():
        if quantities.compare(amount, old.get(name, "0")) > 0:
            before = quantities.quantity(old.get(name, "0"))
            more[name] = str(quantities.quantity(amount) - before)
    return more


def _shown(held: Mapping[str, Any], names: Iterable[str]) -> str:
    return ",".join(f"{name}={quantities.canonical(held.get(name, '0'))}" for name in names)


def _refused(kind: Kind, obj: Object, why: str) -> errors.ApiError:
    return errors.forbidden(kind.group, kind.plural, meta.name(obj), why)
