"""Defaults of CustomResourceDefinitions."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.rules import Row
from meshkube.api.types import Object


def _names(spec: Object) -> None:
    names = spec.get("names")
    if not isinstance(names, dict) or not names.get("kind"):
        return
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")


CUSTOM_RESOURCE_DEFINITION: Final[list[Row]] = [
    ("spec", _names),
    ("spec.conversion", {}),
    ("spec.conversion.strategy", "None"),
]
