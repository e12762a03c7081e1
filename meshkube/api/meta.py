"""Reading and writing the metadata of any object."""

from __future__ import annotations as _annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from meshkube.api.kinds import Kind
from meshkube.api.types import Object, clone

# What Kubernetes uses for generated names: no vowels, no digits that look like letters.
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def copy(obj: Object) -> Object:
    """A deep copy, free to change."""
    copied: Object = clone(obj)
    return copied


def metadata(obj: Mapping[str, Any]) -> Object:
    return obj.get("metadata") or {}


def name(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("name") or "")


def namespace(obj: Mapping[str, Any]) -> str:
    """Empty for a cluster-scoped object."""
    return str(metadata(obj).get("namespace") or "")


def uid(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("uid") or "")


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return metadata(obj).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return metadata(obj).get("annotations") or {}


NO_VERSION = "0"
"""A `resourceVersion` that pins nothing: a write with it is one without any."""


def resource_version(obj: Mapping[str, Any]) -> str:
    return str(metadata(obj).get("resourceVersion") or "")


def generation(obj: Mapping[str, Any]) -> int:
    return int(metadata(obj).get("generation") or 0)


def deleting(obj: Mapping[str, Any]) -> bool:
    """True once deletion was asked for, while finalizers or a grace period hold the object."""
    return bool(metadata(obj).get("deletionTimestamp"))


def key(obj: Mapping[str, Any]) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object: unique within its kind."""
    space = namespace(obj)
    return f"{space}/{name(obj)}" if space else name(obj)


def split_key(key: str) -> tuple[str, str]:
    """`(namespace, name)` of a key; the namespace is empty for a cluster-scoped object."""
    space, _, rest = key.rpartition("/")
    return space, rest


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference with `controller: true`."""
    for owner in metadata(obj).get("ownerReferences") or ():
        if owner.get("controller"):
            return owner  # type: ignore[no-any-return]
    return None


def owner_reference(kind: Kind, owner: Mapping[str, Any]) -> Object:
    """The reference by which `owner` controls an object it makes."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def generated_name(base: str) -> str:
    """`base` (cut to fit 63 characters) and five random characters."""
    suffix = "".join(random.choices(SUFFIX_ALPHABET, k=5))
    return base[:58] + suffix


def timestamp(moment: datetime) -> str:
    """RFC 3339 in whole seconds and UTC, as `metav1.Time` is written."""
    # Not by strftime: before the year 1000 it writes fewer than four digits.
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"


def micro_timestamp(moment: datetime) -> str:
    """RFC 3339 with microseconds, as `metav1.MicroTime` is written."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s|us|ns)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def parse_duration(text: str) -> float:
    """Seconds, of what `metav1.Duration` writes: `1m30.5s`. Raises `ValueError`."""
    parts = list(_DURATION.finditer(text))
    if "".join(part[0] for part in parts) != text or not text:
        raise ValueError(f"{text!r} is not a duration, such as 1m30s")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def parse_timestamp(text: str) -> datetime:
    """The moment of either form. Raises `ValueError`."""
    return datetime.fromisoformat(text)
