"""Writes one pod's status to the API: only what changed, and again until it got there.

What anybody waits for is written at once: that a container runs, ends, is ready or cannot start.
That a pod is on its way there waits for more (`pace`), so a quick start is one write and not three.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.node.kit import Kit
from meshkube.node.status import only_progress, status_patch

log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
REQUEST_TIMEOUT = 20.0
"""Seconds. To give up closes the connection: where a busy API lets hundreds of requests wait, their
new handshakes make it busier still."""


class Reporter:
    """The status of one pod, on its way to the API."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._wanted: tuple[Object, Object] | None = None
        self._written: Object | None = None
        self._wake = asyncio.Event()
        self._weighty = asyncio.Event()
        self._lock = asyncio.Lock()

    def latest(self, pod: Object) -> Object:
        """The newer of `pod`, as watched, and what the last write returned."""
        written = self._written
        if written is None or meta.uid(written) != meta.uid(pod):
            return pod
        if _version(pod) >= _version(written):
            self._written = None
            return pod
        # What is asked for comes from the watch, what was said from the write.
        return {**pod, "status": written.get("status") or {}}

    def report(self, pod: Object, status: Object) -> None:
        """Has `status` written soon."""
        if status_patch(pod.get("status") or {}, status):
            self._wanted = (pod, status)
            self._wake.set()
            if not only_progress(pod.get("status") or {}, status):
                self._weighty.set()
        else:
            self._wanted = None

    async def run(self) -> None:
        """Writes what is reported, until cancelled."""
        delay = FIRST_DELAY
        while True:
            await self._wake.wait()
            await self._more()
            self._wake.clear()
            if self._wanted is None:
                continue
            try:
                await self._write(*self._wanted)
                delay = FIRST_DELAY
            except ApiError as error:
                if error.code == 404:
                    continue
                log.warning(
                    "status not written",
                    extra={"pod": meta.key(self._wanted[0]), "reason": str(error)}
                    if self._wanted
                    else {},
                )
                self._wake.set()
                self._weighty.set()
                await self._kit.clock.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)

    async def _more(self) -> None:
        """Waits a while for something that anybody waits for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._kit.pace.patience):
                await self._weighty.wait()
        self._weighty.clear()

    async def _write(self, pod: Object, status: Object) -> None:
        async with self._lock:
            patch = status_patch(self.latest(pod).get("status") or {}, status)
            if not patch:
                return
            body = {"metadata": {"uid": meta.uid(pod)}, "status": patch}
            began = time.monotonic()
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    self._written = await self._kit.client.patch(
                        kinds.POD,
                        meta.name(pod),
                        body,
                        meta.namespace(pod),
                        type="strategic",
                        subresource="status",
                        field_manager="kubelet",
                    )
                    self._kit.pace.took(time.monotonic() - began)
            except TimeoutError:
                raise ApiError(504, "Timeout", "the API did not answer in time") from None

    async def last_word(self, pod: Object, status: Object) -> None:
        """Writes the status of a pod that has ended; keeps trying."""
        self._wanted = None
        await self._persist(lambda: self._write(pod, status))

    async def delete(self, pod: Object) -> None:
        """Removes the pod from the API, where it is still the same one."""
        await self._persist(
            lambda: self._kit.client.delete(
                kinds.POD, meta.name(pod), meta.namespace(pod), grace_period=0, uid=meta.uid(pod)
            )
        )

    async def _persist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                await attempt()
                return
            except ApiError as error:
                if error.code in (404, 409):
                    # It is gone, or another pod has its name now.
                    return
                log.warning("the API refused", extra={"reason": str(error)})
            await self._kit.clock.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)


def _version(obj: Object) -> int:
    text = meta.resource_version(obj)
    return int(text) if text.isdigit() else 0
