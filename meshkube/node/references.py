"""The ConfigMaps, Secrets, claims and volumes that this node's pods name: each watched alone, and
only while a pod needs it, so a node never holds the cluster's Secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informer

HeldKind = Literal[
    "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume", "RuntimeClass"
]
Key = tuple[HeldKind, str, str]
"""Kind, namespace (empty for a cluster-scoped kind), name."""

_KINDS: dict[HeldKind, Kind] = {
    "ConfigMap": kinds.CONFIG_MAP,
    "Secret": kinds.SECRET,
    "PersistentVolumeClaim": kinds.PERSISTENT_VOLUME_CLAIM,
    "PersistentVolume": kinds.PERSISTENT_VOLUME,
    "RuntimeClass": kinds.RUNTIME_CLASS,
}


@dataclass(slots=True)
class _Held:
    informer: Informer
    task: asyncio.Task[None]
    users: dict[str, Callable[[], None]] = field(default_factory=dict)


class References:
    """Objects held for pods, by pod uid."""

    def __init__(self, client: Client, group: asyncio.TaskGroup) -> None:
        self._client = client
        self._group = group
        self._held: dict[Key, _Held] = {}

    async def hold(self, uid: str, keys: Iterable[Key], changed: Callable[[], None]) -> None:
        """Holds these for a pod until `release`, and returns once each has been looked up.
        `changed` is called when one of them changes."""
        for key in keys:
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = self._watch(key)
            held.users.setdefault(uid, changed)
        for key in keys:
            await self._held[key].informer.wait_synced()

    def release(self, uid: str) -> None:
        for key, held in list(self._held.items()):
            if held.users.pop(uid, None) is not None and not held.users:
                held.task.cancel()
                del self._held[key]

    def get(self, kind: HeldKind, namespace: str, name: str) -> Object | None:
        held = self._held.get((kind, namespace, name))
        key = f"{namespace}/{name}" if namespace else name
        return held.informer.get(key) if held is not None else None

    def _watch(self, key: Key) -> _Held:
        kind, namespace, name = key
        informer = Informer(
            self._client, _KINDS[kind], namespace=namespace or None, fields=f"metadata.name={name}"
        )
        task = self._group.create_task(informer.run(), name=f"watch {kind} {namespace}/{name}")
        held = _Held(informer, task)

        def notify(old: Object | None, new: Object | None) -> None:
            for changed in list(held.users.values()):
                changed()

        informer.subscribe(notify)
        return held
