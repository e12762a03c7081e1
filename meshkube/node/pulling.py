"""Gets the image of one container, and tells the pod's Events how that went.

Reasons and wording are the kubelet's: ErrImagePull, ErrImageNeverPull, InvalidImageName,
RegistryUnavailable, ImageInspectError.
"""

from __future__ import annotations

from collections.abc import Callable

from meshkube.api.types import Object
from meshkube.client.events import Type
from meshkube.node import image_names
from meshkube.node.images import Fetched, NeverPull, Policy, policy_of
from meshkube.node.kit import Kit, container_event, pod_event
from meshkube.node.runtime import (
    Image,
    ImagePullFailure,
    RegistryUnavailable,
    RuntimeFailure,
)


class ImageProblem(Exception):
    """The image could not be had: `reason` as in a container's waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Puller:
    """Images for the containers of one pod; `changed` is called when one of the pod's pull secrets
    changes."""

    def __init__(self, kit: Kit, changed: Callable[[], None]) -> None:
        self._kit = kit
        self._changed = changed

    async def image(self, pod: Object, container: Object) -> Image:
        """Raises `ImageProblem`, of which the Events know already."""
        reference = str(container["image"])
        try:
            image_names.parse(reference)
        except ValueError as error:
            why = f'couldn\'t parse image name "{reference}": {error}'
            message = f'Failed to apply default image tag "{reference}": {why}'
            self._tell(pod, container, "InspectFailed", message, warn=True)
            raise self._problem(pod, container, "InvalidImageName", message) from error
        return await self._valid(pod, container, reference, policy_of(container))

    async def _valid(self, pod: Object, container: Object, reference: str, policy: Policy) -> Image:
        try:
            image = await self._kit.images.present(reference, policy)
            if image is not None:
                message = f'Container image "{reference}" already present on machine'
                self._tell(pod, container, "Pulled", message)
                return image
            self._tell(pod, container, "Pulling", f'Pulling image "{reference}"')
            fetched = await self._pull(pod, reference, policy)
        except NeverPull as error:
            self._tell(pod, container, "ErrImageNeverPull", str(error), warn=True)
            raise self._problem(pod, container, "ErrImageNeverPull", str(error)) from error
        except ImagePullFailure as failure:
            message = f'Failed to pull image "{reference}": {failure}'
            self._tell(pod, container, "Failed", message, warn=True)
            down = isinstance(failure, RegistryUnavailable)
            reason = "RegistryUnavailable" if down else "ErrImagePull"
            raise self._problem(pod, container, reason, str(failure)) from failure
        except RuntimeFailure as failure:
            message = f'Failed to inspect image "{reference}": {failure}'
            self._tell(pod, container, "InspectFailed", message, warn=True)
            raise self._problem(pod, container, "ImageInspectError", str(failure)) from failure
        self._tell(pod, container, "Pulled", pulled(reference, fetched))
        return fetched.image

    async def _pull(self, pod: Object, reference: str, policy: Policy) -> Fetched:
        keyring = await self._kit.pull_secrets.of(pod, self._changed)
        if keyring.missing:
            message = (
                f"Unable to retrieve some image pull secrets ({', '.join(keyring.missing)});"
                " attempting to pull the image may not succeed."
            )
            pod_event(self._kit, pod, "Warning", "FailedToRetrieveImagePullSecret", message)
        return await self._kit.images.pull(reference, policy, keyring.entries)

    def _problem(self, pod: Object, container: Object, reason: str, message: str) -> ImageProblem:
        self._tell(pod, container, "Failed", f"Error: {reason}", warn=True)
        return ImageProblem(reason, message)

    def _tell(
        self, pod: Object, container: Object, reason: str, message: str, *, warn: bool = False
    ) -> None:
        type: Type = "Warning" if warn else "Normal"
        container_event(self._kit, pod, container["name"], type, reason, message)


def pulled(reference: str, fetched: Fetched) -> str:
    """What the Event says of an image that has come."""
    took, waited = go_duration(fetched.seconds), go_duration(fetched.seconds + fetched.waited)
    size = f"Image size: {fetched.image.size} bytes."
    if fetched.node:
        return (
            f'Successfully fetched image "{reference}" from node {fetched.node} in {took}. {size}'
        )
    return f'Successfully pulled image "{reference}" in {took} ({waited} including waiting). {size}'


def go_duration(seconds: float) -> str:
    """To the millisecond, as Go prints it: `340ms`, `1.2s`, `2m3.004s`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
