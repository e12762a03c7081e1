"""What nodes and pods use, as metrics-server shows it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta, quantities
from meshkube.api.printing.columns import NAME, Column, Printer
from meshkube.api.types import Object

_COLUMNS = (
    NAME,
    Column("cpu", "CPU in use."),
    Column("memory", "Memory in use."),
    Column("Window", "The time over which the CPU was measured."),
)


def _cells(obj: Object, usages: Iterable[Object]) -> list[Any]:
    totals = {"cpu": "0", "memory": "0"}
    for usage in usages:
        totals = {name: quantities.add(total, usage[name]) for name, total in totals.items()}
    return [meta.name(obj), *totals.values(), obj.get("window") or ""]


def _node(obj: Object, now: datetime) -> list[Any]:
    return _cells(obj, [obj["usage"]])


def _pod(obj: Object, now: datetime) -> list[Any]:
    return _cells(obj, [container["usage"] for container in obj["containers"]])


PRINTERS = {
    kinds.NODE_METRICS: Printer(_COLUMNS, _node),
    kinds.POD_METRICS: Printer(_COLUMNS, _pod),
}
