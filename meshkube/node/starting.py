"""Brings one container up: image, environment, mounts, create, start, postStart."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node import env
from meshkube.node.container_spec import Resolved, container_spec
from meshkube.node.env import ConfigError
from meshkube.node.hooks import HookFailure, run_hook
from meshkube.node.kit import Kit, container_event
from meshkube.node.plan import KillContainer, StartContainer
from meshkube.node.pod_volumes import PodVolumes
from meshkube.node.pulling import ImageProblem, Puller
from meshkube.node.records import look_at
from meshkube.node.runtime import (
    ContainerSpec,
    Image,
    Record,
    RuntimeFailure,
)
from meshkube.node.stopping import Stopper
from meshkube.node.view import deletion_grace
from meshkube.node.volumes import VolumeError


class StartProblem(Exception):
    """A container could not be started: `reason` as in its waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Starter:
    """Starts containers of one pod."""

    def __init__(self, kit: Kit, volumes: PodVolumes, puller: Puller, stopper: Stopper) -> None:
        self._kit = kit
        self._volumes = volumes
        self._puller = puller
        self._stopper = stopper
        self.hooking: set[str] = set()
        """Ids of containers whose postStart hook is under way: until then they do not count as
        running."""

    async def start(
        self, pod: Object, container: Object, step: StartContainer, sandbox: Record, address: str
    ) -> None:
        """Raises `StartProblem`. A container that was made but could not be run is left for its
        record to tell."""
        try:
            image = await self._puller.image(pod, container)
        except ImageProblem as problem:
            raise StartProblem(problem.reason, problem.message) from problem
        try:
            await self._volumes.ensure(pod)
            spec = await self._spec(pod, container, step, sandbox, address, image)
        except (ConfigError, VolumeError) as error:
            self._failed(pod, container, str(error))
            raise StartProblem("CreateContainerConfigError", str(error)) from error
        try:
            id = await self._kit.runtime.create_container(spec)
        except RuntimeFailure as failure:
            self._failed(pod, container, str(failure))
            raise StartProblem("CreateContainerError", str(failure)) from failure
        self._tell(pod, container, "Created", f"Created container: {container['name']}")
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook is not None:
            self.hooking.add(id)
        try:
            await self._run(pod, container, id)
            if hook is not None:
                await self._post_start(pod, container, hook, id, address)
        finally:
            self.hooking.discard(id)

    async def _run(self, pod: Object, container: Object, id: str) -> None:
        try:
            await self._kit.runtime.start(id)
        except RuntimeFailure as failure:
            self._failed(pod, container, str(failure))
            await self._note(id)
            raise StartProblem("RunContainerError", str(failure)) from failure
        self._tell(pod, container, "Started", f"Started container {container['name']}")
        await self._note(id)

    async def _note(self, id: str) -> Record | None:
        return await look_at(self._kit.runtime, self._kit.records, id)

    async def _post_start(
        self, pod: Object, container: Object, hook: Object, id: str, address: str
    ) -> None:
        """Raises `StartProblem`: then the container has been ended, as at any other end."""
        record = await self._note(id)
        if record is None:
            return
        try:
            await run_hook(self._kit, hook, container, record, address)
        except HookFailure as failure:
            # What a hook says may be secret: Events are for more eyes than a pod's status.
            container_event(
                self._kit, pod, container["name"], "Warning", "FailedPostStartHook",
                "PostStartHook failed",
            )  # fmt: skip
            step = KillContainer(record, "FailedPostStartHook")
            grace = float(deletion_grace(pod))
            await self._stopper.kill(pod, container, step, grace, address)
            raise StartProblem(
                "PostStartHookError", f"PostStartHook failed: {failure}"
            ) from failure

    async def _spec(
        self,
        pod: Object,
        container: Object,
        step: StartContainer,
        sandbox: Record,
        address: str,
        image: Image,
    ) -> ContainerSpec:
        context = self._volumes.context(pod, address)
        links = pod["spec"].get("enableServiceLinks", True)
        services = env.service_variables(meta.namespace(pod), self._kit.services(), links)
        values = env.environment(container, context, services)
        mounts = await self._volumes.mounts(pod, container, step.attempt, address, dict(values))
        resolved = Resolved(
            image=image,
            env=values,
            mounts=mounts,
            sandbox=sandbox,
            handler=await self._volumes.handler(pod),
            memory_capacity=self._kit.memory_capacity,
            target=self._target(pod, container),
        )
        spec = container_spec(pod, container, step.attempt, step.backoff, resolved)
        return await asyncio.to_thread(with_seccomp_profile, spec, self._kit.seccomp_directory)

    def _target(self, pod: Object, container: Object) -> str:
        """The id of the container that an ephemeral one is to look into. Raises `ConfigError`."""
        name = container.get("targetContainerName")
        if not name:
            return ""
        for record in self._kit.records.of(meta.uid(pod)):
            if record.name == name and record.state == "running":
                return record.id
        raise ConfigError(f'target container "{name}" does not run')

    def _tell(self, pod: Object, container: Object, reason: str, message: str) -> None:
        container_event(self._kit, pod, container["name"], "Normal", reason, message)

    def _failed(self, pod: Object, container: Object, why: str) -> None:
        container_event(self._kit, pod, container["name"], "Warning", "Failed", f"Error: {why}")


def with_seccomp_profile(spec: ContainerSpec, directory: Path) -> ContainerSpec:
    """Reads the profile that the container names. Raises `ConfigError`."""
    name = spec.security.seccomp_file
    if not name:
        return spec
    try:
        text = (directory / name).read_text()
        profile = json.dumps(json.loads(text))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load seccomp profile {directory / name}: {error}") from error
    options = (*spec.security.options, f"seccomp={profile}")
    return replace(spec, security=replace(spec.security, options=options))
