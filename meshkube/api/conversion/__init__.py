"""One object, several forms: from a served kind to the kind it is kept as, and back.

A kind whose row names another one in `stored` is a second form of the same objects. A form with no
entry in `_FORMS` differs in its `apiVersion` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from meshkube.api import kinds
from meshkube.api.conversion import autoscaling, events
from meshkube.api.kinds import Kind
from meshkube.api.types import Object


class Form(NamedTuple):
    """Both ways; each returns a new object and leaves the given one, which may be shared, alone."""

    to_stored: Callable[[Object], Object]
    from_stored: Callable[[Object], Object]


_FORMS: Final[dict[Kind, Form]] = {
    kinds.EVENTS_EVENT: Form(events.to_core, events.to_events_group),
    kinds.HORIZONTAL_POD_AUTOSCALER_V1: Form(autoscaling.to_v2, autoscaling.to_v1),
}
_SAME: Final = Form(dict, dict)


def to_stored(kind: Kind, obj: Object) -> Object:
    """An object of `kind` in the form that is kept; the same object where that is its own."""
    if kind.stored is None or kind.definition is not None:
        # A custom object keeps the version it is written in, for its rules are those of that.
        return obj
    return _FORMS.get(kind, _SAME).to_stored(obj) | {"apiVersion": kind.stored.api_version}


def from_stored(kind: Kind, obj: Object) -> Object:
    """A kept object in the form of `kind`; the same object where that is its own."""
    if kind.stored is None:
        return obj
    return _FORMS.get(kind, _SAME).from_stored(obj) | {"apiVersion": kind.api_version}
