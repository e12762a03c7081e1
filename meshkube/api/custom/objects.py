"""Custom objects at the API's border: read, defaulted and judged by the version they are written
in."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshkube.api import schemas
from meshkube.api.custom import values
from meshkube.api.custom.defaulting import default
from meshkube.api.custom.definition import Version
from meshkube.api.custom.pruning import prune
from meshkube.api.custom.structural import OBJECT_META, UNSET
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.api.validation.metadata import validate_metadata, validate_metadata_update

DEEPEST = 128
"""So many levels an object may have: what walks it walks one call deeper each."""


@dataclass(slots=True)
class Shape:
    """What reading an object found."""

    error: str = ""
    """Why it cannot be read at all."""
    unknown: list[str] = field(default_factory=list)
    """Paths of what was dropped."""


def shape(kind: Kind, obj: Object) -> Shape:
    """Drops what the schema does not know, in place."""
    if deeper_than(obj, DEEPEST):
        return Shape(f"the object is nested deeper than {DEEPEST} levels")
    node = schemas.schema_of(OBJECT_META)
    metadata = obj.get("metadata")
    found = schemas.check_node(node, metadata)
    if found.errors:
        return Shape(found.errors[0].message)
    schemas.prune_node(node, metadata)
    unknown = [f"metadata.{path}" for path in found.unknown]
    return Shape(unknown=unknown + prune(obj, _version(kind, obj).schema))


def deeper_than(value: JSON, levels: int) -> bool:
    """Without recursion: however deep it is."""
    layer = [value]
    for _ in range(levels):
        layer = [
            below
            for one in layer
            for below in (one.values() if isinstance(one, dict) else one)
            if isinstance(below, dict | list)
        ]
        if not layer:
            return False
    return True


def defaults(kind: Kind, obj: Object) -> None:
    """In place."""
    schema = _version(kind, obj).schema
    if schema.has_defaults or _has_null(obj):
        default(obj, schema)


def _has_null(value: JSON) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None


def validate_create(kind: Kind, obj: Object) -> list[FieldError]:
    """Every fault of a new object."""
    return validate_metadata(kind, obj) + _judged(kind, obj, UNSET)


def validate_update(kind: Kind, obj: Object, old: Object) -> list[FieldError]:
    """Every fault of a new state; what did not change is not judged again."""
    return validate_metadata_update(kind, obj, old) + _judged(kind, obj, old)


def _judged(kind: Kind, obj: Object, old: JSON) -> list[FieldError]:
    version = _version(kind, obj)
    faults = values.validate(obj, version.schema, old)
    if version.rules is None:
        return faults
    if faults:
        words = (
            "some validation rules were not checked because the object was invalid; correct the"
            " existing errors to complete validation"
        )
        return [*faults, FieldError("<nil>", "FieldValueInvalid", f"Invalid value: null: {words}")]
    return version.rules.judge(obj, old, version.schema)


def _version(kind: Kind, obj: Object) -> Version:
    assert kind.definition is not None
    return kind.definition.of(obj)
