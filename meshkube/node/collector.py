"""Takes away what fills the disk and nobody uses: images above a threshold, and what is left of
pods that are no more. The rules are in `image_ledger`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Counter

from meshkube.client.events import Type
from meshkube.clock import Clock
from meshkube.metrics import REGISTRY
from meshkube.node import image_ledger, signals
from meshkube.node.images import Images
from meshkube.node.mounts import PodDirectory
from meshkube.node.runtime import LocalImage, RuntimeFailure

log = logging.getLogger(__name__)

PERIOD = 30.0
# A disk that stays full for other reasons is told of this often.
TELL_AGAIN = 300.0
# A directory of a pod nobody knows may be of one that is just coming.
ORPHAN_AGE = 120.0

COLLECTED = Counter("meshkube_node_images_collected", "Images taken away", registry=REGISTRY)
FREED = Counter("meshkube_node_images_collected_bytes", "Their sizes", registry=REGISTRY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of the disk that holds images, in percent of use; and how long an image stays unused."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0


class Collector:
    """`directory` says where the images are, or None where that is not on this host; `in_use` the
    ids of images that containers have; `uids` of whom there are pods, None while that is not known;
    `tell` records an Event of the node."""

    def __init__(
        self,
        *,
        images: Images,
        clock: Clock,
        limits: Limits,
        pods_directory: Path,
        directory: Callable[[], Path | None],
        in_use: Callable[[], Collection[str]],
        uids: Callable[[], Collection[str] | None],
        tell: Callable[[Type, str, str], None],
    ) -> None:
        self._images = images
        self._clock = clock
        self._limits = limits
        self._pods_directory = pods_directory
        self._directory = directory
        self._in_use = in_use
        self._uids = uids
        self._tell = tell
        self._told_at = float("-inf")
        self._strangers: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            try:
                await self.step()
            except (RuntimeFailure, OSError) as failure:
                log.warning("images not collected", extra={"reason": str(failure)})
                self._tell_sometimes("ImageGCFailed", str(failure))

    async def step(self) -> None:
        """Frees what the thresholds ask for. Raises `RuntimeFailure`, `OSError`."""
        await self.clear_orphans()
        directory = self._directory()
        if directory is None:
            return
        await self._images.follow(self._in_use())
        amount = await asyncio.to_thread(signals.filesystem, directory)
        if amount is None:
            return
        wanted = image_ledger.to_free(
            amount.capacity, amount.available, self._limits.high, self._limits.low
        )
        if not wanted:
            return
        await self._images.follow(self._in_use(), look=True)
        freed = await self.free(wanted)
        if freed < wanted:
            message = (
                "Failed to garbage collect required amount of images. Attempted to free"
                f" {wanted} bytes, but only found {freed} bytes eligible to free."
            )
            self._tell_sometimes("FreeDiskSpaceFailed", message)

    async def free(self, wanted: int | None = None) -> int:
        """Takes away images that may go until their sizes come to `wanted` bytes; all of them where
        that is None. Returns what was freed. Raises `RuntimeFailure`."""
        freed = 0
        for image in await self._images.victims(self._in_use(), self._limits.minimum_age):
            if wanted is not None and freed >= wanted:
                break
            if await self._removed(image):
                freed += image.size
        if freed:
            await self._images.refresh()
        return freed

    async def _removed(self, image: LocalImage) -> bool:
        if image.id in self._in_use():
            # A pod has come for it meanwhile.
            return False
        try:
            await self._images.remove(image)
        except RuntimeFailure as failure:
            # A container of somebody else has it, as a rule.
            log.info("image stays", extra={"image": image.names[0], "reason": str(failure)})
            return False
        log.info("image removed", extra={"image": image.names[0], "bytes": image.size})
        COLLECTED.inc()
        FREED.inc(image.size)
        return True

    def _tell_sometimes(self, reason: str, message: str) -> None:
        now = self._clock.monotonic()
        if now - self._told_at >= TELL_AGAIN:
            self._told_at = now
            self._tell("Warning", reason, message)

    async def clear_orphans(self) -> None:
        """Files of pods that are no more: of an agent that ended half-way. Raises `OSError`."""
        uids = self._uids()
        if uids is None:
            return
        found = await asyncio.to_thread(_names, self._pods_directory)
        now = self._clock.monotonic()
        strangers = [uid for uid in found if uid not in uids]
        self._strangers = {uid: self._strangers.get(uid, now) for uid in strangers}
        for uid, since in self._strangers.items():
            if now - since >= ORPHAN_AGE:
                log.info("clears away an orphaned pod's files", extra={"uid": uid})
                await asyncio.to_thread(PodDirectory(self._pods_directory, uid).remove)


def _names(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
