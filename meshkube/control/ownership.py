"""Who controls what: owner references, adoption and release by selector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client


@dataclass(slots=True)
class Claim:
    """Objects sorted by what their controller-to-be does with them."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(
    owner: Object, matches: Callable[[Mapping[str, str]], bool], objects: Iterable[Object]
) -> Claim:
    """Which objects `owner` controls, may take (they match and have no controller), and must let
    go of (they no longer match)."""
    result = Claim()
    for obj in objects:
        controller = meta.controller_of(obj)
        if controller is not None:
            if controller.get("uid") != meta.uid(owner):
                continue
            if matches(meta.labels(obj)):
                result.owned.append(obj)
            elif not meta.deleting(owner):
                result.release.append(obj)
        elif matches(meta.labels(obj)) and not meta.deleting(owner) and not meta.deleting(obj):
            result.adopt.append(obj)
    return result


def adopted(obj: Object, kind: Kind, owner: Object) -> Object:
    """The object with `owner` as its controller."""
    changed = meta.copy(obj)
    references = changed["metadata"].setdefault("ownerReferences", [])
    references[:] = [r for r in references if r.get("uid") != meta.uid(owner)]
    references.append(meta.owner_reference(kind, owner))
    return changed


def released(obj: Object, owner: Object) -> Object:
    """The object without its reference to `owner`."""
    changed = meta.copy(obj)
    kept = [r for r in changed["metadata"]["ownerReferences"] if r.get("uid") != meta.uid(owner)]
    changed["metadata"]["ownerReferences"] = kept
    return changed


async def settle(
    client: Client, owner_kind: Kind, owner: Object, kind: Kind, claimed: Claim
) -> list[Object]:
    """Adopts and releases; returns all that `owner` now controls."""
    for obj in claimed.release:
        await client.update(kind, released(obj, owner))
    if not claimed.adopt:
        return claimed.owned
    # Not by the cache: an owner deleted and made again must not take what its namesake had.
    try:
        current = await client.get(owner_kind, meta.name(owner), meta.namespace(owner))
    except ApiError as error:
        if error.code == 404:
            return claimed.owned
        raise
    if meta.uid(current) != meta.uid(owner) or meta.deleting(current):
        return claimed.owned
    taken = [await client.update(kind, adopted(obj, owner_kind, owner)) for obj in claimed.adopt]
    return [*claimed.owned, *taken]


def controller_key(obj: Mapping[str, Any] | None, kind: Kind) -> list[str]:
    """The key of the object of `kind` that controls `obj`: one or none."""
    controller = meta.controller_of(obj) if obj else None
    if controller is None or controller.get("kind") != kind.kind:
        return []
    if str(controller.get("apiVersion") or "").rpartition("/")[0] != kind.group:
        return []
    return [f"{meta.namespace(obj or {})}/{controller['name']}"]
