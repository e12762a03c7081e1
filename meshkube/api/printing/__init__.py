"""Objects as tables: the columns that `kubectl get` shows, made by the server.

Source: the Kubernetes API concepts, "Receiving resources as Tables"; the columns are those that
Kubernetes itself prints. One row of `PRINTERS` per kind; a kind without one shows its name and
when it was created.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from meshkube.api import meta
from meshkube.api.kinds import Kind
from meshkube.api.printing import (
    access,
    jobs,
    measured,
    nodes,
    objects,
    pods,
    policies,
    services,
    storage,
    workloads,
)
from meshkube.api.printing.ages import age, human_duration
from meshkube.api.printing.columns import NAME, Column, Printer
from meshkube.api.types import Object

__all__ = ["Column", "Include", "Printer", "age", "human_duration", "printer_for", "table"]

Include = Literal["Metadata", "None", "Object"]
"""What each row carries beside its cells: the object's metadata, nothing, or all of it."""

PRINTERS: dict[Kind, Printer] = {
    **pods.PRINTERS,
    **nodes.PRINTERS,
    **services.PRINTERS,
    **workloads.PRINTERS,
    **jobs.PRINTERS,
    **objects.PRINTERS,
    **policies.PRINTERS,
    **storage.PRINTERS,
    **access.PRINTERS,
    **measured.PRINTERS,
}

_CREATED = Column("Created At", "When the object was created.", type="date")
_ANY = Printer(
    (NAME, _CREATED),
    lambda obj, now: [meta.name(obj), meta.metadata(obj).get("creationTimestamp")],
)


def printer_for(kind: Kind) -> Printer:
    if kind.definition is not None:
        return kind.definition.version(kind.version).printer
    return PRINTERS.get(kind, _ANY)


def table(
    kind: Kind,
    objects: Iterable[Object],
    now: datetime,
    *,
    include_object: Include = "Metadata",
    headers: bool = True,
    metadata: Object | None = None,
    version: str = "v1",
) -> Object:
    """The `Table` of these objects, in their order, with ages as of `now`.

    `metadata` is that of the list (`resourceVersion`, `continue`, `remainingItemCount`);
    `headers=False` leaves the column definitions out, as in every event of a watch but the first;
    `version` is the one of `meta.k8s.io` that was asked for (`v1` or `v1beta1`). The objects are
    shared, not copied: encode the table, never change it.
    """
    printer = printer_for(kind)
    api_version = f"meta.k8s.io/{version}"
    rows = []
    for obj in objects:
        row: Object = {"cells": printer.cells(obj, now)}
        conditions = printer.conditions(obj) if printer.conditions else None
        if conditions:
            row["conditions"] = conditions
        if include_object == "Metadata":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": api_version,
                "metadata": meta.metadata(obj),
            }
        elif include_object == "Object":
            row["object"] = obj
        else:
            row["object"] = None
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": metadata or {},
        "columnDefinitions": printer.definitions if headers else None,
        "rows": rows,
    }
