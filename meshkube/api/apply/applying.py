"""Applying a configuration: merge it, find conflicts, drop what is no longer declared."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import reduce

from meshkube.api.apply import last_applied
from meshkube.api.apply.fieldsets import Fields, common, minus, paths, union
from meshkube.api.apply.managers import Entry, changes, decode, encode, tracked
from meshkube.api.apply.typed import TypedNode, declared, merge, prune
from meshkube.api.errors import ApiError, bad_request
from meshkube.api.meta import timestamp
from meshkube.api.types import JSON, Object, clone


def apply(
    live: Object | None,
    config: Object,
    manager: str,
    force: bool = False,
    schema: TypedNode | None = None,
    subresource: str = "",
    now: datetime | None = None,
) -> Object:
    """What `live` (None: does not exist yet) becomes when `manager` applies `config`.

    Fields that the manager declared before, declares no longer and nobody else owns are removed.
    The result shares nothing with `live` and `config` but unchanged `fieldsV1`; it is not yet
    defaulted nor validated. Where nothing changes it equals `live`, times included. A
    resourceVersion that `config` brings is in the result: who stores it compares.

    Of an object with a status, only that is taken from what is applied to `status`, and all but
    that otherwise.

    Raises `ApiError`: 409 with one cause per field that another manager owns with another value
    (unless `force`, which takes it over), 400 for a configuration that brings managedFields or
    a list whose elements cannot be told apart.
    """
    if (config.get("metadata") or {}).get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")
    config = _without_nulls(_relevant(config, schema, subresource))
    before = live or {"apiVersion": config.get("apiVersion"), "kind": config.get("kind")}
    mine = Entry(
        manager,
        "Apply",
        str(config.get("apiVersion") or ""),
        subresource,
        timestamp(now) if now else "",
        declared(tracked(config), schema),
    )
    entries = decode(live)
    last = next((entry for entry in entries if entry.identity == mine.identity), None)
    others = [entry for entry in entries if entry is not last]
    merged = _merged(before, config, schema)
    if last is not None:
        owned = reduce(union, (entry.fields for entry in others), mine.fields)
        prune(merged, schema, last.fields, owned)
    changed, removed = changes(before, merged, schema)
    if not force:
        _check_conflicts(others, changed, manager, before, schema)
    if manager == last_applied.MANAGER and not subresource:
        last_applied.keep_up(merged, config)
    if last is not None and last.fields == mine.fields and not changed and not removed:
        managers = clone(before["metadata"]["managedFields"])
    else:
        gone = union(changed, removed)
        kept = [replace(entry, fields=minus(entry.fields, gone)) for entry in others]
        managers = encode([*kept, mine])
    merged.setdefault("metadata", {})["managedFields"] = managers
    return merged


def _check_conflicts(
    others: list[Entry], changed: Fields, manager: str, live: Object, schema: TypedNode | None
) -> None:
    """Raises `ApiError` 409 where others own what is to be changed."""
    conflicts = _shared(others, changed)
    if conflicts and manager == last_applied.MANAGER:
        allowed = last_applied.still_applied(live, schema)
        conflicts = _shared(others, minus(changed, allowed))
    if conflicts:
        raise _conflict(conflicts)


def _shared(others: list[Entry], fields: Fields) -> list[tuple[Entry, Fields]]:
    return [(entry, shared) for entry in others if (shared := common(entry.fields, fields))]


def _relevant(config: Object, schema: TypedNode | None, subresource: str) -> Object:
    """The part of a configuration that may be applied there."""
    if subresource == "status":
        return {
            key: value
            for key, value in config.items()
            if key in ("apiVersion", "kind", "metadata", "status")
        }
    has_status = schema is not None and schema.field("status") is not None
    return {key: value for key, value in config.items() if key != "status" or not has_status}


def _without_nulls(value: JSON) -> JSON:
    """A copy in which null is what it means here: not declared."""
    if isinstance(value, dict):
        return {key: _without_nulls(held) for key, held in value.items() if held is not None}
    return [_without_nulls(held) for held in value] if isinstance(value, list) else value


def _merged(live: Object, config: Object, schema: TypedNode | None) -> Object:
    """The configuration over the live object, without managedFields."""
    metadata = live.get("metadata")
    if metadata:
        bare = {key: value for key, value in metadata.items() if key != "managedFields"}
        live = {**live, "metadata": bare}
    merged: Object = merge(live, config, schema)
    return merged


def _conflict(conflicts: list[tuple[Entry, Fields]]) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {_name(entry)}",
            "field": path,
        }
        for entry, fields in conflicts
        for path in sorted(paths(fields))
    ]
    if len(causes) == 1:
        text = f"1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        groups = (
            "\n".join([f"conflicts with {_name(entry)}:", *(f"- {p}" for p in sorted(paths(f)))])
            for entry, f in sorted(conflicts, key=lambda pair: _name(pair[0]))
        )
        text = f"{len(causes)} conflicts: " + "\n".join(groups)
    return ApiError(409, "Conflict", f"Apply failed with {text}", {"causes": causes})


def _name(entry: Entry) -> str:
    """A manager as conflicts name it: `"kubectl-edit" using apps/v1`."""
    name = f'"{entry.manager}"'
    if entry.subresource:
        name += f' with subresource "{entry.subresource}"'
    if entry.operation == "Update":
        name += f" using {entry.api_version}"
    return name
