"""The rules of a kind, applied to the private object of one request: shape, defaults, faults."""

from __future__ import annotations

from datetime import datetime

from meshkube.api import errors, meta, schemas, validation
from meshkube.api.apply import record_update
from meshkube.api.defaults import apply_defaults
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation.metadata import validate_metadata
from meshkube.control.apiserver.options import WriteOptions

_BAD_NAME = FieldError("metadata.name", "FieldValueInvalid", "Invalid value: not part of a path")


def shape(kind: Kind, obj: Object, options: WriteOptions) -> None:
    """Refuses wrong types; refuses, tells of or drops unknown fields. Raises `ApiError` 400."""
    result = schemas.check(kind, obj)
    if result.errors:
        raise schemas.decode_error(kind, result.errors[0].message)
    if result.unknown:
        faults = [f'unknown field "{path}"' for path in result.unknown]
        if options.field_validation == "Strict":
            raise schemas.strict_error(kind, faults)
        if options.field_validation == "Warn":
            options.warnings.extend(faults)
    schemas.prune(kind, obj)


def defaults(kind: Kind, obj: Object) -> None:
    """Fills in what was left out."""
    apply_defaults(kind, obj)


def validate_create(kind: Kind, obj: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    name = meta.name(obj)
    # Whatever else a kind allows, the name is one part of the path and of the storage key.
    if not name or "/" in name or "%" in name or name in (".", ".."):
        fault = validate_metadata(kind, obj) or [_BAD_NAME]
        refuse(kind, obj, fault)
    refuse(kind, obj, validation.validate_create(kind, obj))


def validate_update(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_update(kind, obj, old))


def validate_status(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_status_update(kind, obj, old))


def validate_ephemeral(kind: Kind, obj: Object, old: Object) -> None:
    """Raises `ApiError` 422 with every fault."""
    refuse(kind, obj, validation.validate_ephemeral_update(obj, old))


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
        schema=schemas.schema_for(kind),
        time=now,
        subresource=subresource,
    )
    if managers:
        obj["metadata"]["managedFields"] = managers
    else:
        obj["metadata"].pop("managedFields", None)
