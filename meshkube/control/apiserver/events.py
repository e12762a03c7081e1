"""Events: stored once, in the core form; `events.k8s.io` is another way to write and read them."""

from __future__ import annotations

from meshkube.api import kinds
from meshkube.api.kinds import Kind
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


def stored_kind(kind: Kind) -> Kind:
    """The kind in whose form objects of `kind` are kept."""
    return kinds.EVENT if kind is kinds.EVENTS_EVENT else kind


def to_core(event: Object) -> Object:
    """An `events.k8s.io` Event in the core form."""
    core = {_RENAMED.get(key, key): value for key, value in event.items()}
    core["apiVersion"] = "v1"
    if isinstance(core.get("series"), dict):
        core["series"] = dict(core["series"])
    return core


def to_events_group(event: Object) -> Object:
    """A core Event in the form of `events.k8s.io`."""
    renamed = {_BACK.get(key, key): value for key, value in event.items()}
    renamed["apiVersion"] = "events.k8s.io/v1"
    return renamed
