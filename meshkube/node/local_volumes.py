"""Erases the directories of this node's volumes once they are deleted.

The control plane deletes a volume whose claim is gone; the volume then carries this node's
finalizer until its files are gone, too.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informer
from meshkube.clock import Clock
from meshkube.node.claims import LOCAL_PATH, NODE_LABEL, PROTECTION, PROVISIONED_BY

log = logging.getLogger(__name__)

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0


def erasable(volume: Object) -> bool:
    """True for a volume that is deleted with its files, and that nobody else holds."""
    held = meta.metadata(volume).get("finalizers") or []
    return (
        meta.deleting(volume)
        and meta.annotations(volume).get(PROVISIONED_BY) == LOCAL_PATH
        and LOCAL_PATH in held
        and PROTECTION not in held
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    )


class LocalVolumes:
    """The directories under `root` that are volumes of the node `name`."""

    def __init__(self, client: Client, name: str, root: Path, clock: Clock) -> None:
        self._client = client
        self._root = root
        self._clock = clock
        # Not among the agent's informers: on another API server a node may not list volumes, and
        # need not, for nobody makes any of ours there.
        self._volumes = Informer(client, kinds.PERSISTENT_VOLUME, labels=f"{NODE_LABEL}={name}")
        self._wake = asyncio.Event()
        self._volumes.subscribe(lambda old, new: self._wake.set())

    async def run(self, recorder: EventRecorder) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._volumes.run(), name="volumes' informer")
            await self._erase(recorder)

    async def _erase(self, recorder: EventRecorder) -> None:
        delay = FIRST_RETRY
        while True:
            self._wake.clear()
            failed = False
            for volume in self._volumes.list():
                if erasable(volume):
                    failed |= not await self._end(volume, recorder)
            if not failed:
                delay = FIRST_RETRY
                await self._wake.wait()
                continue
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)

    async def _end(self, volume: Object, recorder: EventRecorder) -> bool:
        try:
            await asyncio.to_thread(erase, Path(volume["spec"]["local"]["path"]), self._root)
        except OSError as error:
            recorder.event(volume, "Warning", "VolumeFailedDelete", str(error))
            return False
        new = meta.copy(volume)
        new["metadata"]["finalizers"].remove(LOCAL_PATH)
        try:
            await self._client.update(kinds.PERSISTENT_VOLUME, new)
        except ApiError as error:
            if error.code not in (404, 409):
                log.warning("volume not let go of", extra={"reason": error.message})
            return error.code == 404
        log.info("erased a volume", extra={"volume": meta.name(volume)})
        return True


def erase(path: Path, root: Path) -> None:
    """Takes a directory away for good. Raises `OSError`, also for one that is not ours."""
    if path.parent != root or path.name in ("", ".", ".."):
        raise PermissionError(f"{path} is not a volume of this node: it stays")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
