"""The revisioned key-value log under the API: one Protocol, one file per backend."""

from meshkube.store.base import (
    Compacted,
    Event,
    Guard,
    GuardFailed,
    KeyExists,
    KeyValue,
    RangeResult,
    RevisionMismatch,
    Store,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
    WatchBatch,
    Write,
)

__all__ = [
    "Compacted",
    "Event",
    "Guard",
    "GuardFailed",
    "KeyExists",
    "KeyValue",
    "RangeResult",
    "RevisionMismatch",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "TooLarge",
    "WatchBatch",
    "Write",
]
