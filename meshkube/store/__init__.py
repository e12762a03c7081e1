"""The revisioned key-value log under the API: one Protocol, one file per backend."""

from meshkube.store.base import (
    Compacted,
    Event,
    KeyExists,
    KeyValue,
    RangeResult,
    RevisionMismatch,
    Store,
    StoreError,
    StoreUnavailable,
    WatchBatch,
)

__all__ = [
    "Compacted",
    "Event",
    "KeyExists",
    "KeyValue",
    "RangeResult",
    "RevisionMismatch",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "WatchBatch",
]
