"""Brings a pod's sandbox up: its volumes first, as nothing can run without them."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.node import hosts
from meshkube.node.container_spec import sandbox_spec
from meshkube.node.env import ConfigError
from meshkube.node.kit import Kit, pod_event
from meshkube.node.pod_volumes import PodVolumes
from meshkube.node.runtime import RuntimeFailure
from meshkube.node.starting import StartProblem
from meshkube.node.volumes import VolumeError


class SandboxStarter:
    """Starts sandboxes of one pod."""

    def __init__(self, kit: Kit, volumes: PodVolumes) -> None:
        self._kit = kit
        self._volumes = volumes

    async def start(self, pod: Object, attempt: int) -> str:
        """The id of the sandbox, which runs. Raises `StartProblem`, `RuntimeFailure`."""
        if attempt:
            message = "Pod sandbox changed, it will be killed and re-created."
            pod_event(self._kit, pod, "Normal", "SandboxChanged", message)
        try:
            await self._volumes.ensure(pod)
        except VolumeError as error:
            pod_event(self._kit, pod, "Warning", "FailedMount", str(error))
            raise StartProblem("FailedMount", str(error)) from error
        try:
            name = hosts.kernel_hostname(pod, self._kit.node_name, self._kit.cluster_domain)
            handler = await self._volumes.handler(pod)
        except ConfigError as error:
            raise StartProblem("FailedCreatePodSandBox", self._failed(pod, error)) from error
        try:
            spec = sandbox_spec(pod, attempt, name, handler)
            id = await self._kit.runtime.create_sandbox(spec)
            await self._kit.runtime.start(id)
        except RuntimeFailure as failure:
            self._failed(pod, failure)
            raise
        return id

    def _failed(self, pod: Object, why: Exception) -> str:
        message = f"Failed to create pod sandbox: {why}"
        pod_event(self._kit, pod, "Warning", "FailedCreatePodSandBox", message)
        return message
