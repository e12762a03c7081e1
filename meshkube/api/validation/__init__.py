"""Whether an object may be stored: every fault of it at once, worded as Kubernetes words it.

Objects have passed `schemas.check`, were pruned and defaulted: types are right here, values may be
anything. One module checks one family of kinds; `_KINDS` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults
from meshkube.api.validation.metadata import validate_metadata, validate_metadata_update

Create = Callable[[Object], Faults]
Update = Callable[[Object, Object], Faults]

_CREATE: Final[dict[Kind, Create]] = {}
_UPDATE: Final[dict[Kind, Update]] = {}


def validate_create(kind: Kind, obj: Object) -> list[FieldError]:
    """Every fault of a new object, whose name and namespace are already set."""
    faults = validate_metadata(kind, obj)
    if kind in _CREATE:
        faults += _CREATE[kind](obj)
    return _unique(faults)


def validate_update(kind: Kind, obj: Object, old: Object) -> list[FieldError]:
    """Every fault of a new state of `old`, also of what may not change."""
    faults = validate_metadata_update(kind, obj, old)
    if kind in _UPDATE:
        faults += _UPDATE[kind](obj, old)
    elif kind in _CREATE:
        faults += _CREATE[kind](obj)
    return _unique(faults)


def _unique(faults: Faults) -> Faults:
    return list(dict.fromkeys(faults))
