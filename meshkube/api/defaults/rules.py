"""A small reader of default tables.

A table is a list of rows `(path, value)`. A path names one field from the object's root, with `[]`
after each list: `spec.containers[].ports[].protocol`. The row applies wherever the parent of that
field exists; a row above it may have made that parent. The value is one of:

    text             fills a field that is missing or empty
    any other        fills a field that is missing (dicts are copied)
    IfZero(number)   fills a field that is missing or 0
    a function       is called with the object at the path (not its parent), if there is one;
                     an empty path is the whole object

All rows of a table are merged into one tree, so one walk over an object applies them all. At each
object the functions come first, then the values of its fields, then what is below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from meshkube.api.types import JSON, Object


@dataclass(frozen=True, slots=True)
class IfZero:
    """A default for a number whose zero means that it was not given."""

    number: int


Value: TypeAlias = "str | int | bool | dict[str, JSON] | IfZero | Callable[[Object], None]"
Row: TypeAlias = tuple[str, Value]


def under(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """The same rows one level down: `under("spec.template", POD)`."""
    return [(f"{prefix}.{path}" if path else prefix, value) for path, value in rows]


class _Place:
    """All that is to be done at one place of an object."""

    __slots__ = ("below", "elements", "functions", "values")

    def __init__(self) -> None:
        self.functions: list[Callable[[Object], None]] = []
        self.values: list[tuple[str, JSON | IfZero]] = []
        self.below: dict[str, _Place] = {}
        self.elements = False

    def child(self, step: str) -> _Place:
        name = step.removesuffix("[]")
        place = self.below.setdefault(name, _Place())
        place.elements = place.elements or step.endswith("[]")
        return place


class Rules:
    """A compiled table."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._root = _Place()
        for path, value in rows:
            self._add(path, value)

    def _add(self, path: str, value: Value) -> None:
        *steps, last = path.split(".") if path else [""]
        place = self._root
        for step in steps:
            place = place.child(step)
        if callable(value):
            (place.child(last) if last else place).functions.append(value)
        else:
            place.values.append((last, value))

    def apply(self, obj: Object) -> None:
        """Apply the table in place."""
        _apply(self._root, obj)


def _apply(place: _Place, obj: Object) -> None:
    for function in place.functions:
        function(obj)
    for key, value in place.values:
        _fill(obj, key, value)
    for key, below in place.below.items():
        found = obj.get(key)
        if not found:
            # An empty object is a place too; an empty list has none.
            if isinstance(found, dict):
                _apply(below, found)
        elif below.elements:
            for element in found:
                _apply(below, element)
        else:
            _apply(below, found)


def _fill(obj: Object, key: str, value: JSON | IfZero) -> None:
    found = obj.get(key)
    if isinstance(value, IfZero):
        if not found:
            obj[key] = value.number
    elif found is None or (found == "" and isinstance(value, str)):
        obj[key] = dict(value) if isinstance(value, dict) else value
