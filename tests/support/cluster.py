"""A small cluster without containers for tests of the control plane: the real API, real caches, the
real controllers, and nodes that say their pods run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock, SystemClock
from meshkube.control import indexes
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.control.auth.component_roles import CONTROLLER_ACCOUNTS, controller_user
from meshkube.control.controllers import (
    ephemeral_volume,
    local_path,
    persistent_volume,
    volume_binder,
    volume_expand,
    volume_protection,
)
from meshkube.control.loop import Controller, ControllerLoop, Settings
from meshkube.control.scheduler.loop import Scheduler
from meshkube.control.volumes import DIRECTORY
from tests.support.api import running_registry

STORAGE: tuple[Controller, ...] = (
    volume_binder.CONTROLLER,
    persistent_volume.CONTROLLER,
    local_path.CONTROLLER,
    volume_expand.CONTROLLER,
    volume_protection.CONTROLLER,
    volume_protection.OF_VOLUMES,
    ephemeral_volume.CONTROLLER,
)
"""All that claims need to get their volumes."""


class Cluster:
    """A Client, caches, and ways to wait."""

    def __init__(self, client: Client, clock: Clock, seen: Client) -> None:
        self.client = client
        self.clock = clock
        self.caches = Informers(seen)
        self.events = EventRecorder(client, "test", clock=clock)
        self.makes_ready = True
        """Whether the nodes make new pods ready."""
        indexes.install(self.caches)

    async def until(self, condition: Callable[[], Any], what: str = "", timeout: float = 10) -> Any:
        """Waits until the condition, asked after changes, gives something true; returns that."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not (value := condition()):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"{what or condition} did not come true in {timeout} s")
            await asyncio.sleep(0.01)
        return value

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        return self.caches.of(kind).list(namespace)

    async def events_of(self, reason: str) -> list[Object]:
        """Those of a reason; waits for the first, as Events are written after what they tell of."""
        for _ in range(40):
            await asyncio.sleep(0.05)
            found = (await self.client.list(kinds.EVENT)).items
            if told := [event for event in found if event["reason"] == reason]:
                return told
        return []

    async def create(self, obj: Object) -> Object:
        kind = kinds.by_kind(obj["apiVersion"], obj["kind"])
        assert kind is not None
        space = obj["metadata"].get("namespace") or "default"
        return await self._seen(kind, await self.client.create(kind, obj, space))

    async def _seen(self, kind: Kind, stored: Object) -> Object:
        """Waits until the cache shows it, so that what is asked of it next is about this one."""
        cache = self.caches.of(kind)
        version = int(meta.resource_version(stored))
        await self.until(lambda: int(cache.resource_version or 0) >= version)
        return stored

    async def change(
        self, kind: Kind, name: str, change: Object, namespace: str = "default"
    ) -> Object:
        """Merges the change into the object, whatever else happens to it meanwhile."""
        while True:
            stored = meta.copy(await self.client.get(kind, name, namespace))
            _merge(stored, change)
            try:
                stored = await self.client.update(kind, stored)
                return await self._seen(kind, stored)
            except ApiError as error:
                if error.code != 409:
                    raise

    async def run_kubelets(self) -> None:
        """Says of every bound pod that it runs and is ready; lets go of deleted ones."""
        wake = asyncio.Event()
        cache = self.caches.of(kinds.POD)
        cache.subscribe(lambda old, new: wake.set())
        while True:
            await wake.wait()
            wake.clear()
            for pod in cache.list():
                with contextlib.suppress(ApiError):
                    await self._sync(pod)

    async def _sync(self, pod: Object) -> None:
        name, space = meta.name(pod), meta.namespace(pod)
        if not pod["spec"].get("nodeName"):
            return
        if meta.deleting(pod):
            await self.client.delete(kinds.POD, name, space, grace_period=0, uid=meta.uid(pod))
        elif self.makes_ready and (pod.get("status") or {}).get("phase") == "Pending":
            await self.mark_ready(pod)

    async def mark_ready(self, pod: Object, ready: bool = True) -> None:
        now = meta.timestamp(self.clock.now())
        address = f"10.42.0.{abs(hash(meta.uid(pod))) % 250 + 1}"
        status: Object = {
            "phase": "Running",
            "startTime": now,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": now},
                {"type": "ContainersReady", "status": str(ready), "lastTransitionTime": now},
                *(c for c in _conditions(pod) if c["type"] == "PodScheduled"),
            ],
        }
        await self.client.update(kinds.POD, {**pod, "status": status}, subresource="status")


def _conditions(obj: Object) -> list[Object]:
    return (obj.get("status") or {}).get("conditions") or []


def _merge(target: Object, change: Object) -> None:
    """RFC 7386, for objects."""
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def node(name: str = "n1", cpu: str = "4", pods: str = "110", **metadata: Any) -> Object:
    """A Node that is ready, with room for volumes."""
    metadata.setdefault("labels", {}).setdefault("kubernetes.io/hostname", name)
    metadata.setdefault("annotations", {}).setdefault(DIRECTORY, "/srv/volumes")
    room = {"cpu": cpu, "memory": "8Gi", "pods": pods}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, **metadata},
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, labels: dict[str, str] | None = None, namespace: str = "default",
        **spec: Any) -> Object:  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}], **spec},
    }


def template(app: str, image: str = "busybox:1") -> Object:
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


def deployment(name: str = "web", replicas: int = 3, image: str = "busybox:1",
               annotations: dict[str, str] | None = None, **spec: Any) -> Object:  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image),
            **spec,
        },
    }


def _as(registry: Registry, controller: str) -> Client:
    """What a controller of this name may do, as in the daemon; one of a test's own may do all."""
    if controller not in CONTROLLER_ACCOUNTS and controller != "scheduler":
        return LocalClient(registry)
    return LocalClient(registry, controller_user(controller))


@contextlib.asynccontextmanager
async def cluster(
    tmp_path: Path,
    controllers: Sequence[Controller] = (),
    *,
    nodes: Sequence[Object] = (),
    clock: Clock | None = None,
    settings: Settings | None = None,
    scheduler: bool = False,
    kubelets: bool = True,
    seen_by_controllers: Callable[[Client], Client] = lambda client: client,
    seen_by_caches: Callable[[Client], Client] = lambda client: client,
) -> AsyncIterator[Cluster]:
    """Runs these controllers on a new API with these nodes, each as its own user.
    `seen_by_controllers` may put something between them and the API, `seen_by_caches` between it
    and what they read."""
    clock = clock or SystemClock()
    async with running_registry(tmp_path) as registry:
        client = LocalClient(registry)
        made = Cluster(client, clock, seen_by_caches(client))
        loops = [
            ControllerLoop(
                controller,
                client=seen_by_controllers(_as(registry, controller.name)),
                caches=made.caches,
                events=made.events,
                clock=clock,
                settings=settings or Settings(),
            )
            for controller in controllers
        ]
        places = Scheduler(_as(registry, "scheduler"), made.caches, made.events, clock)
        for kind in kinds.STORED:
            if kind is not kinds.EVENT:
                made.caches.of(kind)
        for obj in nodes:
            await client.create(kinds.NODE, obj)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(made.caches.run()), group.create_task(made.events.run())]
            async with asyncio.timeout(10):
                await made.caches.wait_synced()
            tasks += [group.create_task(loop.run()) for loop in loops]
            if scheduler:
                tasks.append(group.create_task(places.run()))
            if kubelets:
                tasks.append(group.create_task(made.run_kubelets()))
            try:
                yield made
            finally:
                for task in reversed(tasks):
                    task.cancel()
