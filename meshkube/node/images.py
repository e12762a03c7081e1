"""Images as a pod's `imagePullPolicy` asks for them; one pull at a time for each image."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node.runtime import Image, Runtime

Policy = Literal["Always", "IfNotPresent", "Never"]


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
    """An image that is there now; `seconds` it took to pull, None where it was there before."""

    image: Image
    seconds: float | None = None


class Images:
    """Looks images up and pulls them."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}

    async def present(self, reference: str, policy: Policy) -> Image | None:
        """The image, where nothing needs to be pulled. Raises `NeverPull`, `RuntimeFailure`."""
        if policy == "Always":
            return None
        image = await self._runtime.image(reference)
        if image is None and policy == "Never":
            raise NeverPull(
                f'Container image "{reference}" is not present with pull policy of Never'
            )
        return image

    async def pull(self, reference: str) -> Fetched:
        """Raises `ImagePullFailure`, `RuntimeUnavailable`."""
        started = self._clock.monotonic()
        async with self._locks.setdefault(reference, asyncio.Lock()):
            image = await self._runtime.pull(reference)
        return Fetched(image, self._clock.monotonic() - started)
