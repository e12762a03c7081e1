"""Images as a pod's `imagePullPolicy` asks for them; one fetch at a time for each image."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node import image_archive, image_ledger, image_names, registry_auth
from meshkube.node.image_peers import ImagePeers, Load
from meshkube.node.registry_auth import Credential, Entry
from meshkube.node.runtime import (
    Image,
    ImageArchiveFailure,
    ImagePullFailure,
    LocalImage,
    Runtime,
    RuntimeFailure,
)

log = logging.getLogger(__name__)

Policy = Literal["Always", "IfNotPresent", "Never"]
# As the kubelet: a Node's status names the largest.
MOST_REPORTED = 50
PIECE = 256 * 1024
# When images were used last is written this often, in seconds; what they are at once.
KEEP_EVERY = 600.0


class NeverPull(Exception):
    """The image is absent and may not be pulled: reason `ErrImageNeverPull`."""


def policy_of(container: Object) -> Policy:
    """The policy, with Kubernetes' default: `Always` for the tag `latest` or none."""
    policy = container.get("imagePullPolicy")
    if policy:
        return policy  # type: ignore[no-any-return]
    name = str(container.get("image", "")).rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image that is there now."""

    image: Image
    seconds: float = 0.0
    """What the fetch itself took."""
    waited: float = 0.0
    """Before it, for others that fetched the same."""
    node: str = ""
    """It came from; empty for a registry."""


class Images:
    """The images of this node. `changed` is called when others are there than before; `directory`
    holds archives from other nodes while they are looked at."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        directory: Path,
        peers: ImagePeers | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._directory = directory
        self._peers = peers
        self._changed = changed
        self._locks: dict[str, asyncio.Lock] = {}
        self._listed: list[LocalImage] | None = None
        self._file = directory / "images.json"
        self._ledger = image_ledger.load(_content(self._file), self._now())
        self._written = self._ledger.essence()
        self._written_at = self._now()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def present(self, reference: str, policy: Policy) -> Image | None:
        """The image, where nothing needs to be pulled. Raises `NeverPull`, `RuntimeFailure`."""
        if policy == "Always":
            return None
        image = await self._runtime.image(reference)
        if image is None and policy == "Never":
            raise NeverPull(
                f'Container image "{reference}" is not present with pull policy of Never'
            )
        if image is not None:
            self._ledger.note(image.id, self._now())
        return image

    async def pull(
        self, reference: str, policy: Policy = "Always", credentials: Sequence[Entry] = ()
    ) -> Fetched:
        """From another node that has it, or from its registry; `Always` asks the registry, as it
        alone knows what is newest and who may have it. Raises `ImagePullFailure`,
        `RuntimeUnavailable`."""
        asked = self._clock.monotonic()
        async with self._locks.setdefault(reference, asyncio.Lock()):
            started = self._clock.monotonic()
            node = ""
            image = None
            if policy == "IfNotPresent":
                # Another pod may have waited for the same.
                image = await self._runtime.image(reference)
                if image is None and self._peers is not None:
                    node = await self._peers.fetch(reference, self._taker(reference))
                    image = await self._runtime.image(reference) if node else None
            if image is None:
                image = await self._from_registry(reference, credentials)
            self._ledger.note(image.id, self._now())
            seconds = self._clock.monotonic() - started
        await self.refresh()
        return Fetched(image, seconds, started - asked, node)

    async def _from_registry(self, reference: str, credentials: Sequence[Entry]) -> Image:
        """With each credential that is meant for it in turn; without any where there is none."""
        try:
            name = image_names.parse(reference)
        except ValueError as error:
            raise ImagePullFailure(f"{reference}: {error}") from error
        failures: list[ImagePullFailure] = []
        tried: list[Credential | None] = [*registry_auth.matching(credentials, name)]
        for credential in tried or [None]:
            try:
                image = await self._runtime.pull(reference, credential)
                private = credential is not None
                self._ledger.note_pull(image.id, self._now(), private=private)
                with contextlib.suppress(OSError):
                    # A full disk is no reason to refuse the image; it is tried again soon.
                    await self._keep()
                return image
            except ImagePullFailure as failure:
                failures.append(failure)
        if len(failures) == 1:
            raise failures[0]
        said = dict.fromkeys(map(str, failures))
        raise ImagePullFailure("[" + ", ".join(said) + "]" if len(said) > 1 else str(failures[0]))

    def _taker(self, reference: str) -> Load:
        async def take(archive: AsyncIterator[bytes], id: str) -> None:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._directory) as file:
                async for piece in archive:
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(image_archive.check, file, reference)
                await self._runtime.load_image(_pieces(file))
            image = await self._runtime.image(reference)
            if image is None or image.id != id:
                await self._runtime.remove_image(reference)
                found = image.id if image is not None else "nothing of that name"
                raise ImageArchiveFailure(f"the archive holds {found}, not {id}")

        return take

    async def load(self, archive: AsyncIterator[bytes]) -> list[str]:
        """The names of what was in an archive. Raises `RuntimeFailure`."""
        names = await self._runtime.load_image(archive)
        for name in names:
            image = await self._runtime.image(name)
            if image is not None:
                self._ledger.note(image.id, self._now())
        await self.refresh()
        return names

    def is_private(self, id: str) -> bool:
        """Whether a registry gave the image only to somebody whom it knows."""
        return self._ledger.is_private(id)

    async def follow(self, in_use: Collection[str], *, look: bool = False) -> None:
        """Notes which images are used, by id, and now and then, as with `look`, which are there;
        keeps that on disk. Raises `RuntimeFailure`, `OSError`."""
        now = self._now()
        due = now - self._written_at > KEEP_EVERY
        if look or due:
            present = {image.id for image in await self._runtime.images()}
            self._ledger.follow(present, now)
        self._ledger.use(in_use, now)
        if due or self._ledger.essence() != self._written:
            await self._keep()

    async def _keep(self) -> None:
        self._written, self._written_at = self._ledger.essence(), self._now()
        await asyncio.to_thread(_write, self._file, self._ledger.dump())

    async def victims(self, in_use: Collection[str], minimum_age: float) -> list[LocalImage]:
        """What may go, in that order. Raises `RuntimeFailure`."""
        images = await self._runtime.images()
        return self._ledger.victims(images, in_use, self._now(), minimum_age)

    async def remove(self, image: LocalImage) -> None:
        """Takes all its names away, and so the image. Raises `RuntimeFailure` where a container has
        it."""
        for name in reversed(image.names):
            await self._runtime.remove_image(name)

    async def listed(self) -> list[LocalImage]:
        """All that have a name. Raises `RuntimeFailure`."""
        return await self._runtime.images()

    async def refresh(self) -> None:
        """Looks at what is there; at leisure, so a failure is left for the next look."""
        try:
            found = await self._runtime.images()
        except RuntimeFailure as failure:
            log.debug("images not listed", extra={"reason": str(failure)})
            return
        if found != self._listed:
            self._listed = found
            self._changed()

    def report(self) -> list[Object] | None:
        """As a Node's status names them: the largest first. None before the first look."""
        if self._listed is None:
            return None
        largest = sorted(self._listed, key=lambda image: (-image.size, image.names))
        return [
            {"names": list(image.names), "sizeBytes": image.size}
            for image in largest[:MOST_REPORTED]
        ]


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, PIECE):
        yield piece


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(file)
