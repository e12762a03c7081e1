"""Claims: one key of the store for each address and port that a Service holds, so that no two
servers hand out the same one. Pure.

A claim is written and deleted in the transaction of its Service, and its value says whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.apiserver.services import Held, held_by
from meshkube.store import KeyValue, Write

ROOT = "/claims/"


def key_of(held: Held) -> str:
    """`/claims/address/10.43.0.10`, `/claims/port/30080`."""
    return f"{ROOT}{'port' if isinstance(held, int) else 'address'}/{held}"


def keys_of(service: Object | None) -> dict[str, bytes]:
    """Every claim of a Service, and its value: namespace, name, uid."""
    if service is None:
        return {}
    return {key_of(held): value_of(service) for held in held_by(service)}


def value_of(service: Object) -> bytes:
    return f"{meta.namespace(service)}/{meta.name(service)}/{meta.uid(service)}".encode()


def owner_of(value: bytes) -> tuple[str, str]:
    """`(namespace, name)` of the Service that a claim names."""
    namespace, name, *_ = [*value.decode(errors="replace").split("/"), "", ""]
    return namespace, name


def writes(old: Object | None, new: Object | None, found: Mapping[str, int]) -> list[Write]:
    """What a change of a Service changes. `found`: claims that are held by nobody who is alive, and
    their revisions."""
    before, after = keys_of(old), keys_of(new)
    taken = [Write(key, after[key], found.get(key, 0)) for key in after if key not in before]
    return taken + [Write(key, None, None) for key in before if key not in after]


def missing(services: Iterable[Object], claims: Iterable[KeyValue]) -> dict[str, bytes]:
    """Claims that ought to be there, by Services from before there were any."""
    there = {kv.key for kv in claims}
    return {
        key: value
        for service in services
        for key, value in keys_of(service).items()
        if key not in there
    }


def orphans(services: Iterable[Object], claims: Iterable[KeyValue]) -> list[KeyValue]:
    """Claims of nobody, such as of a Service that was taken out of the store by hand."""
    due: dict[str, set[bytes]] = {}
    for service in services:
        for key, value in keys_of(service).items():
            due.setdefault(key, set()).add(value)
    return [kv for kv in claims if kv.value not in due.get(kv.key, ())]
