"""`additionalPrinterColumns`: a definition's own columns as a `Printer`.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Additional printer columns".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from meshkube.api import meta
from meshkube.api.custom import jsonpath
from meshkube.api.printing.ages import human_duration
from meshkube.api.printing.columns import NAME, Column, Printer
from meshkube.api.types import JSON, Object

_AGE = {
    "name": "Age",
    "type": "date",
    "description": "The time since the object was created.",
    "jsonPath": ".metadata.creationTimestamp",
}


def printer(columns: Iterable[Object] | None) -> Printer:
    """The name, then the columns asked for; the age where none is."""
    asked = list(columns or ()) or [_AGE]
    made = [
        Column(
            one["name"],
            one.get("description") or "",
            one["type"],
            one.get("format") or "",
            one.get("priority") or 0,
        )
        for one in asked
    ]
    readers = [(jsonpath.parse(one["jsonPath"]), one["type"]) for one in asked]

    def cells(obj: Object, now: datetime) -> list[Any]:
        return [meta.name(obj), *(_cell(path.find(obj), type_, now) for path, type_ in readers)]

    return Printer((NAME, *made), cells)


def _cell(found: list[JSON], type_: str, now: datetime) -> JSON:
    value = found[0] if found else None
    if value is None:
        return None
    if type_ == "date":
        return _date(value, now)
    if type_ == "string":
        return _text(value)
    if type_ == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if type_ == "integer" else float(value)


def _date(value: JSON, now: datetime) -> JSON:
    try:
        return human_duration((now - meta.parse_timestamp(str(value))).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"


def _text(value: JSON) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
