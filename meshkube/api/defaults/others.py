"""Defaults of namespaces, nodes and secrets."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.aliases import pod_cidrs, string_data
from meshkube.api.defaults.pods import whole_milli
from meshkube.api.defaults.rules import Row
from meshkube.api.types import Object


def _name_label(namespace: Object) -> None:
    """Selectors find a namespace by this label, so no one may set it to anything else."""
    metadata = namespace.get("metadata") or {}
    if metadata.get("name"):
        labels = metadata.get("labels")
        metadata["labels"] = labels = {} if labels is None else labels
        labels["kubernetes.io/metadata.name"] = metadata["name"]


def _allocatable(status: Object) -> None:
    if status.get("allocatable") is None and status.get("capacity") is not None:
        status["allocatable"] = dict(status["capacity"])


NAMESPACE: Final[list[Row]] = [
    ("", _name_label),
    ("status", {}),
    ("status.phase", "Active"),
]

NODE: Final[list[Row]] = [
    ("spec", pod_cidrs),
    ("status", _allocatable),
    ("status.capacity", whole_milli),
    ("status.allocatable", whole_milli),
]

SECRET: Final[list[Row]] = [("", string_data), ("type", "Opaque")]
