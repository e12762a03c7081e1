"""Names that a definition is granted, and the conditions that say so.

Source: the CustomResourceDefinition API reference, its conditions; of two definitions that want one
name the one that has it keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def condition(obj: Mapping[str, Any], type_: str) -> Object | None:
    """One condition of a status."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == type_), None)


def holds(obj: Mapping[str, Any], type_: str) -> bool:
    """Whether a condition is there and true."""
    found = condition(obj, type_)
    return found is not None and found.get("status") == "True"


def set_condition(
    status: Object, type_: str, value: str, reason: str, words: str, now: str
) -> None:
    """Adds or replaces one, in place; its time stays while its status does."""
    conditions = status.setdefault("conditions", [])
    new = {
        "type": type_,
        "status": value,
        "lastTransitionTime": now,
        "reason": reason,
        "message": words,
    }
    for index, one in enumerate(conditions):
        if one.get("type") == type_:
            if one.get("status") == value:
                new["lastTransitionTime"] = one.get("lastTransitionTime", now)
            conditions[index] = new
            return
    conditions.append(new)


def granted(crd: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> tuple[Object, str, str]:
    """`(names, reason, words)`: what it may be called beside `others` of any group; the reason is
    empty where that is all it asked for."""
    spec = crd["spec"]
    taken, kinds_taken = _taken(crd, others)
    asked = spec["names"]
    names: Object = dict((crd.get("status") or {}).get("acceptedNames") or {})
    reason = words = ""

    def refuse(why: str, value: str) -> None:
        nonlocal reason, words
        if not reason:
            reason, words = why, f"{value!r} is already in use".replace("'", '"')

    for field, why in (("plural", "PluralConflict"), ("singular", "SingularConflict")):
        value = asked.get(field) or ""
        if value in taken:
            refuse(why, value)
        else:
            names[field] = value
    clash = next((one for one in asked.get("shortNames") or () if one in taken), "")
    if clash:
        refuse("ShortNamesConflict", clash)
    elif asked.get("shortNames"):
        names["shortNames"] = list(asked["shortNames"])
    else:
        names.pop("shortNames", None)
    for field, why in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
        value = asked.get(field) or ""
        if value in kinds_taken:
            refuse(why, value)
        else:
            names[field] = value
    if asked.get("categories"):
        names["categories"] = list(asked["categories"])
    else:
        names.pop("categories", None)
    return names, reason, words


def _taken(
    crd: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> tuple[set[str], set[str]]:
    group = crd["spec"]["group"]
    taken: set[str] = set()
    kinds_taken: set[str] = set()
    for kind in kinds.KINDS:
        if kind.group == group:
            taken |= {kind.plural, kind.singular, *kind.short_names}
            kinds_taken |= {kind.kind, kind.list_kind}
    for other in others:
        if other["spec"]["group"] != group or meta.name(other) == meta.name(crd):
            continue
        has = (other.get("status") or {}).get("acceptedNames") or {}
        taken |= {
            has.get("plural") or "",
            has.get("singular") or "",
            *(has.get("shortNames") or ()),
        }
        kinds_taken |= {has.get("kind") or "", has.get("listKind") or ""}
    return taken - {""}, kinds_taken - {""}


def settle(crd: Object, others: Iterable[Mapping[str, Any]], now: datetime) -> None:
    """Writes the status of a private definition as it stands beside `others`, in place."""
    status = crd.setdefault("status", {})
    moment = meta.timestamp(now)
    names, reason, words = granted(crd, others)
    status["acceptedNames"] = names
    if reason:
        set_condition(status, "NamesAccepted", "False", reason, words, moment)
    else:
        said = "no conflicts found"
        set_condition(status, "NamesAccepted", "True", "NoConflicts", said, moment)
    if holds(crd, "Established"):
        pass
    elif reason:
        said = "not all names are accepted"
        set_condition(status, "Established", "False", "NotAccepted", said, moment)
    else:
        said = "the initial names have been accepted"
        set_condition(status, "Established", "True", "InitialNamesAccepted", said, moment)
    stored = status.setdefault("storedVersions", [])
    keeps = next((one["name"] for one in crd["spec"]["versions"] if one.get("storage")), "")
    if keeps and keeps not in stored:
        stored.append(keeps)
