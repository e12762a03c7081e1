"""The list `metadata.managedFields`: one entry per manager, operation and sub-resource.

Source: the Kubernetes API reference, "ManagedFieldsEntry". Times are in whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from meshkube.api.apply.fieldsets import Fields, minus, union
from meshkube.api.apply.typed import TypedNode, compare
from meshkube.api.meta import timestamp
from meshkube.api.types import Object

Operation = Literal["Apply", "Update"]

MOST_UPDATERS = 10
"""With more managers that update, the oldest are kept together under one name."""
ANCIENT = "ancient-changes"

# What nobody owns: identity, and what the server alone sets.
_NOT_TRACKED = frozenset(
    ("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation",
     "managedFields", "resourceVersion")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """What one manager owns."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """An applier stays itself when it applies another version of the API."""
        version = "" if self.operation == "Apply" else self.api_version
        return self.manager, self.operation, version, self.subresource

    def encoded(self) -> Object:
        entry: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if self.time:
            entry["time"] = self.time
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def decode(obj: Mapping[str, Any] | None) -> list[Entry]:
    """The entries of an object. What is no entry is left out: a client may have written it."""
    found = []
    for raw in ((obj or {}).get("metadata") or {}).get("managedFields") or ():
        fields = raw.get("fieldsV1") if isinstance(raw, dict) else None
        if isinstance(fields, dict) and raw.get("operation") in ("Apply", "Update"):
            found.append(
                Entry(
                    str(raw.get("manager") or ""),
                    raw["operation"],
                    str(raw.get("apiVersion") or ""),
                    str(raw.get("subresource") or ""),
                    str(raw.get("time") or ""),
                    fields,
                )
            )
    return found


def encode(entries: Iterable[Entry]) -> list[Object]:
    """Appliers first, then by time, as the API lists them; without those that own nothing."""
    kept = [entry for entry in entries if entry.fields]
    kept.sort(key=lambda entry: (entry.operation, entry.time, entry.manager, entry.subresource))
    updaters = [entry for entry in kept if entry.operation == "Update"]
    if len(updaters) > MOST_UPDATERS:
        kept = [entry for entry in kept if entry.operation == "Apply"] + _capped(updaters)
    return [entry.encoded() for entry in kept]


def _capped(updaters: list[Entry]) -> list[Entry]:
    """Joins the oldest of the same API version until few enough are left."""
    excess = len(updaters) - MOST_UPDATERS + 1
    joined: dict[str, Entry] = {}
    for entry in updaters[:excess]:
        held = joined.get(entry.api_version)
        fields = union(held.fields, entry.fields) if held else entry.fields
        joined[entry.api_version] = replace(entry, manager=ANCIENT, subresource="", fields=fields)
    return [*joined.values(), *updaters[excess:]]


def tracked(obj: Mapping[str, Any] | None) -> Object:
    """The part of an object that managers own; shares what it holds."""
    kept = {key: value for key, value in (obj or {}).items() if key not in ("apiVersion", "kind")}
    metadata = {
        key: value
        for key, value in (kept.pop("metadata", None) or {}).items()
        if key not in _NOT_TRACKED
    }
    return {"metadata": metadata, **kept} if metadata else kept


def changes(
    old: Mapping[str, Any] | None, new: Mapping[str, Any], schema: TypedNode | None
) -> tuple[Fields, Fields]:
    """`(fields that are new or have another value, fields that are gone)`."""
    changed: Fields = {}
    removed: Fields = {}
    compare(tracked(old), tracked(new), schema, changed, removed)
    return changed, removed


def record_update(
    old: Object | None,
    new: Object,
    manager: str,
    operation: Operation = "Update",
    schema: TypedNode | None = None,
    time: datetime | None = None,
    subresource: str = "",
) -> list[Object]:
    """The `managedFields` of `new`, which `manager` wrote over `old` (None: created it).

    The manager gets what it changed or added, all others lose that and what is gone. `new` is as
    it will be stored, with defaults. Entries that it brings itself replace those of `old`, as long
    as it brings any: a client that sends back what it has read keeps them, one that sends
    `[{}]` clears them. A status is recorded only where a sub-resource was written. The result
    shares parts with both, and replaces the list in `new`.
    """
    base = decode(new) if _brings_entries(new) else decode(old)
    if not subresource and schema is not None and schema.field("status") is not None:
        # What the server itself makes of a status here is nobody's.
        changed, removed = changes(_no_status(old), _no_status(new), schema)
    else:
        changed, removed = changes(old, new, schema)
    if not changed and not removed:
        return encode(base)
    mine = Entry(
        manager,
        operation,
        str(new.get("apiVersion") or ""),
        subresource,
        timestamp(time) if time else "",
        changed,
    )
    entries, held = [], mine
    gone = union(changed, removed)
    for entry in base:
        left = minus(entry.fields, gone)
        if entry.identity == mine.identity:
            fields = union(left, changed)
            held = replace(mine if changed else entry, fields=fields)
        elif left is entry.fields:
            entries.append(entry)
        else:
            entries.append(replace(entry, fields=left))
    return encode([*entries, held])


def _no_status(obj: Object | None) -> Object:
    return {key: value for key, value in (obj or {}).items() if key != "status"}


def _brings_entries(new: Object) -> bool:
    return bool((new.get("metadata") or {}).get("managedFields"))
