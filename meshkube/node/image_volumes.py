"""Image volumes: the files of an image, as a directory of one pod.

Docker cannot mount an image, so each pod gets a copy. Source: Kubernetes documentation, "Volumes",
"image".
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from meshkube.api.types import Object
from meshkube.node.images import Images, NeverPull, policy_of
from meshkube.node.registry_auth import Entry
from meshkube.node.runtime import Image, Runtime, RuntimeFailure
from meshkube.node.volumes import VolumeError


async def set_up(
    source: Object,
    target: Path,
    images: Images,
    runtime: Runtime,
    credentials: Callable[[], Awaitable[Sequence[Entry]]],
) -> None:
    """Puts the image's files at `target`, whole or not at all. Raises `VolumeError`."""
    if await asyncio.to_thread(target.exists):
        return
    reference = str(source.get("reference") or "")
    try:
        image = await _image(reference, source, images, credentials)
        async with contextlib.aclosing(runtime.image_files(image.id)) as archive:
            await unpack(archive, target)
    except (NeverPull, RuntimeFailure) as failure:
        raise VolumeError(f'image "{reference}": {failure}') from failure


async def _image(
    reference: str,
    source: Object,
    images: Images,
    credentials: Callable[[], Awaitable[Sequence[Entry]]],
) -> Image:
    policy = policy_of({"image": reference, "imagePullPolicy": source.get("pullPolicy")})
    found = await images.present(reference, policy)
    if found is not None:
        return found
    return (await images.pull(reference, policy, await credentials())).image


async def unpack(archive: AsyncIterator[bytes], target: Path) -> None:
    """Unpacks a tar by the host's own `tar`, which follows no link out of the directory. Raises
    `VolumeError`, and what reading the archive raises."""
    if shutil.which("tar") is None:
        raise VolumeError("tar is not on this host: image volumes need it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".image-", dir=target.parent) as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir(mode=0o755)
        with tempfile.TemporaryFile() as said:
            process = await asyncio.create_subprocess_exec(
                "tar", "-x", "-f", "-", "-C", str(tree),
                stdin=asyncio.subprocess.PIPE, stdout=said, stderr=said,
            )  # fmt: skip
            try:
                await _feed(process, archive)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if process.returncode:
                said.seek(0)
                raise VolumeError(f"unpacking failed: {said.read(500).decode(errors='replace')}")
        tree.rename(target)


async def _feed(process: asyncio.subprocess.Process, archive: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None
    try:
        async for piece in archive:
            process.stdin.write(piece)
            await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        # It has ended, and says itself why.
        pass
    await process.wait()
