"""Room on the node: eviction and collection side by side, as the agent starts them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meshkube.api.types import Object
from meshkube.client.events import Type
from meshkube.clock import Clock
from meshkube.node import signals
from meshkube.node.collector import Collector, Limits
from meshkube.node.evictor import TRANSITION, Evictable, Evictor
from meshkube.node.images import Images
from meshkube.node.records import Records
from meshkube.node.refusals import Ending
from meshkube.node.runtime import Runtime, RuntimeFailure
from meshkube.node.thresholds import Condition, Threshold

log = logging.getLogger(__name__)


class Tenant(Evictable, Protocol):
    """A pod of this node, which may leave things behind."""

    def reclaim(self) -> None:
        """Takes away what a pod that is over has on the disk."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the node is told about it."""

    eviction: tuple[Threshold, ...] = ()
    transition: float = TRANSITION
    """Seconds for which pressure shows after its last sign."""
    images: Limits = field(default_factory=Limits)


class Housekeeping:
    """`tenants` are the pods of this node, `uids` of whom something may be here (None while that is
    not known); `tell` records an Event of the node; `changed` is called when its conditions have
    changed."""

    def __init__(
        self,
        *,
        room: Room,
        clock: Clock,
        runtime: Runtime,
        images: Images,
        records: Records,
        data_dir: Path,
        tenants: Callable[[], Iterable[Tenant]],
        uids: Callable[[], Collection[str] | None],
        tell: Callable[[Type, str, str], None],
        changed: Callable[[], None],
    ) -> None:
        self._tenants = tenants
        self._image_directory: Path | None = None
        self._evictor = Evictor(
            limits=room.eviction,
            transition=room.transition,
            clock=clock,
            runtime=runtime,
            look=lambda: signals.read(data_dir, self._image_directory),
            pods=tenants,
            reclaim=self._reclaim,
            tell=tell,
            changed=changed,
        )
        self._collector = Collector(
            images=images,
            clock=clock,
            limits=room.images,
            pods_directory=data_dir / "pods",
            directory=lambda: self._image_directory,
            in_use=records.image_ids,
            uids=uids,
            tell=tell,
        )

    @property
    def conditions(self) -> frozenset[Condition]:
        """What the node runs short of."""
        return self._evictor.conditions

    def refused(self, pod: Object) -> Ending | None:
        """Why a new pod is not taken on now."""
        return self._evictor.refused(pod)

    async def observe(self) -> None:
        """Looks once, so that `conditions` are known."""
        await self._evictor.observe()

    async def found(self, directory: str) -> None:
        """The runtime answers, and keeps its images in `directory`, if that is not empty."""
        path = Path(directory)
        here = bool(directory) and await asyncio.to_thread(path.is_dir)
        self._image_directory = path if here else None
        self._evictor.look_again()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._evictor.run(), name="eviction")
            group.create_task(self._collector.run(), name="collection")

    async def _reclaim(self) -> None:
        for tenant in list(self._tenants()):
            tenant.reclaim()
        try:
            await self._collector.free()
        except (RuntimeFailure, OSError) as failure:
            log.warning("images not collected", extra={"reason": str(failure)})
