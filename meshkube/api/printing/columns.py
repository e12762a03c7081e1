"""What a table's columns are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshkube.api.types import Object

Cells = Callable[[Object, datetime], list[Any]]
NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; those with priority 1 are shown by `-o wide` only."""

    name: str
    description: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self) -> Object:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is shown: its columns, and a cell for each of them, wide ones too."""

    columns: tuple[Column, ...]
    cells: Cells
    conditions: Callable[[Object], list[Object] | None] | None = None
    definitions: list[Object] = field(init=False)
    """The columns as JSON, made once and shared by every table."""

    def __post_init__(self) -> None:
        made = [column.definition() for column in self.columns]
        object.__setattr__(self, "definitions", made)


NAME = Column(
    "Name", "The name, unique among objects of this kind in the namespace.", format="name"
)
AGE = Column("Age", "The time since the object was created.")


def wide(name: str, description: str) -> Column:
    """A column that only `-o wide` shows."""
    return Column(name, description, priority=1)


def pairs(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d`, or `<none>`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def first(found: Iterable[str], most: int) -> str:
    """The first few joined by commas, and how many more there are."""
    all_ = list(found)
    text = ",".join(all_[:most])
    return f"{text} + {len(all_) - most} more..." if len(all_) > most else text
