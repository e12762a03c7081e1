"""What the store's errors are to the API's clients."""

from __future__ import annotations

from types import TracebackType

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.store import (
    GuardFailed,
    KeyExists,
    RevisionMismatch,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TooLarge,
)

RETRY_SECONDS = 1


class _Told:
    """No generator, as each write and each read passes through here."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, StoreError) and not isinstance(error, _SETTLED):
            raise of(error) from error


_SETTLED = (KeyExists, RevisionMismatch, GuardFailed)
_TOLD = _Told()


def told() -> _Told:
    """Raises `ApiError` for what the store raises, but for what a writer settles by itself: another
    revision than expected, a guard that does not hold."""
    return _TOLD


def of(error: StoreError) -> ApiError:
    """503 where nothing was done and trying again is right; 504 where a write may have been done;
    507 for a full store; 413 for what it never takes."""
    if isinstance(error, StoreFull):
        message = f"the store is full, nothing was written: {error}"
        return ApiError(507, "InsufficientStorage", message)
    if isinstance(error, StoreUnavailable) and error.unknown:
        return errors.timeout(
            f"whether the write took effect is not known, look before you try again: {error}"
        )
    if isinstance(error, StoreUnavailable):
        away = errors.unavailable(f"the store does not answer: {error}")
        # Clients of Kubernetes try again by themselves where they are told when.
        away.details = {"retryAfterSeconds": RETRY_SECONDS}
        return away
    if isinstance(error, TooLarge):
        return errors.too_large(f"the object is too large for the store: {error}")
    return errors.internal(str(error))
