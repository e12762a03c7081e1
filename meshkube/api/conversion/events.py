"""Events: kept in the core form; `events.k8s.io` is another way to write and read them."""

from __future__ import annotations

from meshkube.api.types import Object

# events.k8s.io name -> core name.
_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: new for new, core in _RENAMED.items()}


def to_core(event: Object) -> Object:
    """An `events.k8s.io` Event in the core form."""
    return {_RENAMED.get(key, key): value for key, value in event.items()}


def to_events_group(event: Object) -> Object:
    """A core Event in the form of `events.k8s.io`."""
    return {_BACK.get(key, key): value for key, value in event.items()}
