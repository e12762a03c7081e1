"""The rules of a kind, applied to the private object of one request: shape, defaults, faults."""

from __future__ import annotations

from datetime import datetime

from meshkube.api import errors, kinds, meta, schemas, validation
from meshkube.api.apply import record_update
from meshkube.api.apply.typed import TypedNode
from meshkube.api.custom import objects
from meshkube.api.defaults import apply_defaults
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation.metadata import validate_metadata
from meshkube.control.apiserver.options import WriteOptions

DEEPEST_SCHEMA = 200
_BAD_NAME = FieldError("metadata.name", "FieldValueInvalid", "Invalid value: not part of a path")


def shape(kind: Kind, obj: Object, options: WriteOptions) -> None:
    """Refuses wrong types; refuses, tells of or drops unknown fields. Raises `ApiError` 400."""
    if kind.definition is not None:
        shape = objects.shape(kind, obj)
        if shape.error:
            raise errors.bad_request(shape.error)
        _unknown(kind, obj, shape.unknown, options)
        options.warnings += deprecation(kind)
        return
    if kind is kinds.CUSTOM_RESOURCE_DEFINITION and objects.deeper_than(obj, DEEPEST_SCHEMA):
        raise errors.bad_request(f"the schema is nested deeper than {DEEPEST_SCHEMA} levels")
    if schemas.settle(kind, obj):
        _unknown(kind, obj, [], options)
        return
    result = schemas.check(kind, obj)
    if result.errors:
        raise schemas.decode_error(kind, result.errors[0].message)
    _unknown(kind, obj, result.unknown, options)
    schemas.prune(kind, obj)


def _unknown(kind: Kind, obj: Object, paths: list[str], options: WriteOptions) -> None:
    if paths and options.applied and options.field_validation == "Strict":
        raise _undeclared(kind, obj, paths)
    faults = [*(f'unknown field "{path}"' for path in paths), *options.duplicates]
    if faults and options.field_validation == "Strict":
        raise schemas.strict_error(kind, faults)
    if faults and options.field_validation == "Warn":
        options.warnings.extend(faults)


def _undeclared(kind: Kind, obj: Object, paths: list[str]) -> errors.ApiError:
    """An apply says who owns which field: of one that is none nobody can be."""
    faults = [f".{path}: field not declared in schema" for path in paths]
    told = (
        faults[0] if len(faults) == 1 else "".join(["errors:", *(f"\n  {one}" for one in faults)])
    )
    place = meta.key(obj) if kind.namespaced else meta.name(obj)
    about = f"{place}; {kind.api_version}, Kind={kind.kind}"
    return errors.ApiError(500, "", f"failed to create typed patch object ({about}): {told}")


def deprecation(kind: Kind) -> list[str]:
    """What whoever asks for a version of a custom kind is told, where its definition says so."""
    if kind.definition is None:
        return []
    warning = kind.definition.version(kind.version).warning
    return [warning.strip() or f"{kind.api_version} {kind.kind} is deprecated"] if warning else []


def schema_for(kind: Kind) -> TypedNode:
    """The shape of a kind's objects, for server-side apply."""
    if kind.definition is not None:
        return kind.definition.version(kind.version).schema
    return schemas.schema_for(kind)


def defaults(kind: Kind, obj: Object) -> None:
    """Fills in what was left out."""
    if kind.definition is not None:
        objects.defaults(kind, obj)
    else:
        apply_defaults(kind, obj)


def validate_create(kind: Kind, obj: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    name = meta.name(obj)
    # Whatever else a kind allows, the name is one part of the path and of the storage key.
    if not name or "/" in name or "%" in name or name in (".", ".."):
        fault = validate_metadata(kind, obj) or [_BAD_NAME]
        refuse(kind, obj, fault)
    judge = validation.validate_create if kind.definition is None else objects.validate_create
    refuse(kind, obj, judge(kind, obj))


def validate_update(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    judge = validation.validate_update if kind.definition is None else objects.validate_update
    refuse(kind, obj, judge(kind, obj, old))


def validate_status(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    if kind.definition is not None:
        refuse(kind, obj, objects.validate_update(kind, obj, old))
    else:
        refuse(kind, obj, validation.validate_status_update(kind, obj, old))


def validate_ephemeral(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_ephemeral_update(obj, old))


def validate_resize(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_resize(obj, old))


def validate_approval(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_approval_update(obj, old))


def refuse(kind: Kind, obj: Object, faults: list[FieldError]) -> None:
    """Raises `ApiError` 422 where there are any."""
    if faults:
        raise errors.invalid(kind.group, kind.kind, meta.name(obj), faults)


def record_manager(
    kind: Kind,
    obj: Object,
    old: Object | None,
    options: WriteOptions,
    now: datetime,
    subresource: str = "",
) -> None:
    """Notes in `managedFields` who set what; an apply brings its own."""
    if options.applied:
        return
    managers = record_update(
        old,
        obj,
        options.field_manager,
        schema=schema_for(kind),
        time=now,
        subresource=subresource,
    )
    if managers:
        obj["metadata"]["managedFields"] = managers
    else:
        obj["metadata"].pop("managedFields", None)
