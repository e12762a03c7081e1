"""Parsed objects have their equal parts in common: the containers of a Deployment's pods, the trees
of fields that one manager wrote. These are most of the memory of a parsed object. Such objects are
shared and never changed, so their parts may be too.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from meshkube.api.kinds import POD, Kind
from meshkube.api.types import Object

KEPT = 2048
"""Parts that are remembered, and as many that were not met again since."""


class Parts:
    """The parts met lately, by their content."""

    def __init__(self) -> None:
        self._met: dict[bytes, Any] = {}
        self._before: dict[bytes, Any] = {}

    def one(self, part: Any) -> Any:
        """What stands for the part everywhere."""
        key = blake2b(orjson.dumps(part), digest_size=16).digest()
        found = self._met.get(key)
        if found is None:
            found = self._met[key] = self._before.get(key, part)
            if len(self._met) >= KEPT:
                self._met, self._before = {}, self._met
        return found


_PARTS = Parts()


def parsed(kind: Kind, raw: bytes) -> Object:
    """A served object. Shared with every reader: copy before changing."""
    obj: Object = orjson.loads(raw)
    for manager in obj["metadata"].get("managedFields") or ():
        if "fieldsV1" in manager:
            manager["fieldsV1"] = _PARTS.one(manager["fieldsV1"])
    if kind is POD:
        spec = obj["spec"]
        for field, part in spec.items():
            if isinstance(part, dict | list) and part:
                spec[field] = _PARTS.one(part)
    return obj
