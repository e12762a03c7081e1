"""What a key and a value may be, whatever keeps them."""

from __future__ import annotations

from meshkube.store.base import StoreError

LONGEST_KEY = 4096
LARGEST_VALUE = 16 * 1024 * 1024


def check(key: str, value: bytes) -> None:
    """Raises `StoreError` with one line for what no store takes."""
    if not key or len(key) > LONGEST_KEY:
        raise StoreError(f"a key has 1 to {LONGEST_KEY} characters, not {len(key)}")
    if len(value) > LARGEST_VALUE:
        raise StoreError(f"{key}: a value has at most {LARGEST_VALUE} bytes, not {len(value)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{key!r}: a key is text that UTF-8 can hold") from None
