"""Refusals that an Event has told people of: they are tried again, and are no fault here."""

from __future__ import annotations

from meshkube.api.errors import ApiError


class Told(ApiError):
    """What the API refused for a reason its user knows and can change: a full quota, a policy."""


def told(error: ApiError) -> ApiError:
    """The error as one that an Event has told; itself where that is not all there is to it: a
    conflict, too many requests (429), a fault of the server."""
    if error.code not in (400, 403, 422):
        return error
    return Told(error.code, error.reason, error.message, error.details)
