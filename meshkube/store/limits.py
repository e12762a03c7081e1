"""What a key, a value and a transaction may be, whatever keeps them.

The sizes are those of etcd as it comes (`--max-request-bytes` 1.5 MiB, `--max-txn-ops` 128), with
room for what we add to a request: so what fits one backend fits the other one.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshkube.store.base import Guard, StoreError, TooLarge, Write

LONGEST_KEY = 4096
LARGEST_VALUE = 1_500_000
"""Bytes, of all the values and keys of a transaction together."""
MOST_WRITES = 120


def check(writes: Sequence[Write], guards: Sequence[Guard] = ()) -> None:
    """Raises `StoreError` with one line for what no store takes: `TooLarge` for its size."""
    size = 0
    for write in writes:
        check_key(write.key)
        size += 3 * len(write.key) + len(write.value or b"")
    for guard in guards:
        check_key(guard.key)
    if len(writes) > MOST_WRITES:
        raise TooLarge(
            f"{writes[0].key}: a transaction has at most {MOST_WRITES} keys, not {len(writes)}"
        )
    if size > LARGEST_VALUE:
        raise TooLarge(
            f"{writes[0].key}: a value has at most {LARGEST_VALUE} bytes, with all that is written"
            f" beside it, not {size}"
        )


def check_key(key: str) -> None:
    """Raises `StoreError`."""
    if not key or len(key) > LONGEST_KEY:
        raise StoreError(f"a key has 1 to {LONGEST_KEY} characters, not {len(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{key!r}: a key is text that UTF-8 can hold") from None
