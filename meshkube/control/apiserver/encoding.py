"""How objects are kept: their storage keys, and bytes that are encoded once per revision.

A stored value has no resourceVersion: that is the revision the store gives it. It is put into the
bytes behind `"metadata":{`, so that an object is encoded when it is written and never again.
"""

from __future__ import annotations

from typing import Any

import orjson

from meshkube.api.kinds import Kind
from meshkube.api.types import Object

ROOT = "/registry/"
_OPEN = b'"metadata":{'


def resource_prefix(kind: Kind) -> str:
    """`/registry/apps/deployments/`, with `core` for the core group."""
    return f"{ROOT}{kind.group or 'core'}/{kind.plural}/"


def object_key(kind: Kind, namespace: str, name: str) -> str:
    """Where one object is kept."""
    if kind.namespaced:
        return f"{ROOT}{kind.group or 'core'}/{kind.plural}/{namespace}/{name}"
    return f"{ROOT}{kind.group or 'core'}/{kind.plural}/{name}"


def prefix_of(key: str) -> str:
    """The resource prefix of an object's key."""
    return key[: key.index("/", key.index("/", len(ROOT)) + 1) + 1]


def encode(kind: Kind, obj: Object) -> bytes:
    """The stored form: type and metadata first, without resourceVersion."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    ordered: dict[str, Any] = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
    }
    for key, value in obj.items():
        if key not in ordered:
            ordered[key] = value
    return orjson.dumps(ordered)


def type_of_item(kind: Kind) -> bytes:
    """How the encoded form of every object of a kind begins."""
    return b'{"apiVersion":"%b","kind":"%b",' % (kind.api_version.encode(), kind.kind.encode())


def stamp(value: bytes, revision: int) -> bytes:
    """The served form of a stored value."""
    at = value.index(_OPEN) + len(_OPEN)
    return b'%b"resourceVersion":"%d",%b' % (value[:at], revision, value[at:])


def unstamp(raw: bytes, revision: int) -> bytes:
    """The stored form of a served one."""
    return raw.replace(b'"resourceVersion":"%d",' % revision, b"", 1)


def restamp(raw: bytes, old: int, new: int) -> bytes:
    """A served form with another resourceVersion."""
    return raw.replace(b'"resourceVersion":"%d"' % old, b'"resourceVersion":"%d"' % new, 1)
