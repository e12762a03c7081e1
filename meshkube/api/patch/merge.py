"""JSON Merge Patch, RFC 7386."""

from __future__ import annotations

from meshkube.api.errors import bad_request
from meshkube.api.patch.values import type_name
from meshkube.api.types import JSON, Object, clone


def merge_patch(doc: Object, patch: JSON) -> Object:
    """`doc` with `patch` merged in: null removes, objects merge, all else replaces.

    Raises `ApiError` 400 for a patch that is no object (the RFC would put it in the place of
    the whole document, which no API object allows).
    """
    if not isinstance(patch, dict):
        raise bad_request(f"a merge patch must be an object, not of type {type_name(patch)}")
    return _merge(clone(doc), patch)


def _merge(target: Object, patch: Object) -> Object:
    """Merges into `target` itself."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            held = target.get(key)
            target[key] = _merge(held if isinstance(held, dict) else {}, value)
        else:
            target[key] = clone(value)
    return target
