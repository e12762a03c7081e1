"""Regular expressions of other people: Go's dialect, in time that grows with the text alone.

RE2 is the library whose syntax Go's `regexp` has; Python's own `re` differs in places and can be
made to run for ever by a pattern.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol


class Pattern(Protocol):
    """What is used of a compiled pattern."""

    def search(self, text: str, /) -> object: ...


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Pattern:
    """Raises `ValueError` with the reason."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        found: Pattern = re2.compile(pattern, options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise ValueError(text) from None
    return found
