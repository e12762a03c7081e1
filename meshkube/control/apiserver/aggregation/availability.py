"""The condition `Available` of APIServices. Pure."""

from __future__ import annotations

from datetime import datetime

from meshkube.api import meta
from meshkube.api.types import Object


class Unavailable(Exception):
    """Why a server cannot be asked: a reason for programs, and words for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


LOCAL = (True, "Local", "Local APIServices are always available")
PASSED = (True, "Passed", "all checks passed")


def with_condition(api: Object, found: tuple[bool, str, str], now: datetime) -> Object | None:
    """A copy whose status says what was found: `(available, reason, message)`. None where it does
    already."""
    available, reason, message = found
    conditions = list((api.get("status") or {}).get("conditions") or ())
    before = next((one for one in conditions if one.get("type") == "Available"), None)
    made: Object = {
        "type": "Available",
        "status": "True" if available else "False",
        "lastTransitionTime": meta.timestamp(now),
        "reason": reason,
        "message": message,
    }
    if before is not None:
        if before.get("status") == made["status"]:
            made["lastTransitionTime"] = before.get("lastTransitionTime")
        if before == made:
            return None
    changed = meta.copy(api)
    others = [one for one in conditions if one.get("type") != "Available"]
    changed["status"] = {**(api.get("status") or {}), "conditions": [*others, made]}
    return changed
