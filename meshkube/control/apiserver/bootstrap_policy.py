"""The default roles and bindings: made where missing, and what was taken from them given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.encoding import object_key
from meshkube.control.apiserver.options import WriteOptions
from meshkube.control.auth import component_roles, default_roles
from meshkube.control.auth.policy import reconciled

if TYPE_CHECKING:
    from meshkube.control.apiserver.registry import Registry

_KINDS = {
    kind.kind: kind
    for kind in (
        kinds.ROLE,
        kinds.CLUSTER_ROLE,
        kinds.ROLE_BINDING,
        kinds.CLUSTER_ROLE_BINDING,
    )
}


def _objects() -> Iterator[Object]:
    for source in (default_roles, component_roles):
        yield from source.roles()
        yield from source.bindings()


async def ensure(registry: Registry) -> None:
    """Safe to run at every start; writes only what differs."""
    async with asyncio.TaskGroup() as group:
        for wanted in _objects():
            group.create_task(_ensure(registry, _KINDS[wanted["kind"]], wanted))


async def _ensure(registry: Registry, kind: Kind, wanted: Object) -> None:
    options = WriteOptions(field_manager="meshkube")
    name, namespace = meta.name(wanted), meta.namespace(wanted)
    stored = registry.feed.cache(kind).items.get(object_key(kind, namespace, name))
    try:
        if stored is None:
            await registry.create(kind, meta.copy(wanted), namespace, options)
            return
        changed = reconciled(wanted, stored.object)
        if changed is not None:
            await registry.update(kind, changed, namespace, name, options)
    except ApiError as error:
        # Another server was faster: it knows the same roles.
        if error.code != 409:
            raise
