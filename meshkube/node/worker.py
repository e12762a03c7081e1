"""One pod's worker: looks, plans, acts, and tells the API, until the pod is gone.

The loop itself never waits for anything but a reason to look again. What takes time (a pull, a
start, a grace period) is an operation of its own, named after its container; the plan leaves a
container with an operation under way alone. So one slow image holds up nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any

from meshkube.api import meta
from meshkube.api.allocation import DEFERRED
from meshkube.api.types import Object
from meshkube.node import eviction, usage
from meshkube.node.container_spec import grace_period
from meshkube.node.fitting import Place, place_of
from meshkube.node.kit import Kit, container_event, pod_event
from meshkube.node.last_words import LastWords
from meshkube.node.plan import (
    Action,
    CreateSandbox,
    Finish,
    KillContainer,
    Remove,
    Resize,
    StartContainer,
    StopSandbox,
    plan,
)
from meshkube.node.pod_volumes import PodVolumes
from meshkube.node.prober import PodProber
from meshkube.node.pulling import Puller
from meshkube.node.refusals import Ending, refusal
from meshkube.node.reporter import Reporter
from meshkube.node.resizing import Waiting, as_given, decide, given_at_first, resources_of, room
from meshkube.node.runtime import SANDBOX, PodRef, Record, RuntimeFailure
from meshkube.node.sandboxes import SandboxStarter
from meshkube.node.starting import Starter, StartProblem
from meshkube.node.status import Facts, pod_address, pod_status
from meshkube.node.stopping import Stopper, probe_grace
from meshkube.node.troubles import OF_IMAGES, Troubles, back_off_message
from meshkube.node.usage import DiskUse
from meshkube.node.use import VolumeUse
from meshkube.node.view import PodView, Seen, all_containers, deletion_grace, look
from meshkube.node.volumes import VolumeError

log = logging.getLogger(__name__)

VOLUMES = "VOLUMES"
FINISH = "FINISH"
UNMOUNT_RETRY = 5.0
# What an evicted pod has to end, whatever it asks for: the node has no time.
EVICTION_GRACE = 1.0
# Room on the node may come without a word to this pod.
RESIZE_RETRY = 5.0


class PodWorker:
    """Runs the pod `pod` until it is gone from the API and from the runtime."""

    def __init__(self, kit: Kit, pod: Object) -> None:
        self.uid = meta.uid(pod)
        self.gone = False
        self._kit = kit
        self._pod = pod
        self._in_api = True
        self._wake = asyncio.Event()
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._starting: set[str] = set()
        self._troubles = Troubles()
        self._volumes = PodVolumes(kit, self.uid, self._references_changed)
        self._stopper = Stopper(kit)
        self._starter = Starter(kit, self._volumes, Puller(kit, self.image_came), self._stopper)
        self._sandboxes = SandboxStarter(kit, self._volumes)
        self._last_words = LastWords(kit.runtime, self._volumes.directory)
        self._reading: set[asyncio.Task[None]] = set()
        self._reporter = Reporter(kit)
        self._group: asyncio.TaskGroup
        self._prober: PodProber
        self._stale_projections = False
        self._ending: Ending | None = None
        self._complained: set[tuple[str, int]] = set()
        self._admitted = False
        self._place: tuple[Object, Place] | None = None
        self._cleared = False
        self._given = given_at_first(pod)
        self._resize: Waiting | None = None

    @property
    def pod(self) -> Object:
        """With its newest status; shared."""
        return self._reporter.latest(self._pod)

    @property
    def place(self) -> Place | None:
        """What it holds of the node; None where it was not taken on, or is over."""
        pod = self.pod
        phase = (pod.get("status") or {}).get("phase") or "Pending"
        turned_away = self._ending is not None and not self._ending.disrupts
        if phase in ("Succeeded", "Failed") or turned_away:
            return None
        if self._has_ended or not self._in_api:
            # The next one may be here before the last word on this one.
            return None
        if not self._admitted and phase == "Pending" and not self._kit.records.of(self.uid):
            return None
        if self._place is None or self._place[0] is not pod:
            self._place = (pod, place_of(pod))
        return self._place[1]

    @property
    def _has_ended(self) -> bool:
        """It is to go, and all that is left of it is to say so."""
        under_way = self._operations.keys() - {FINISH}
        return meta.deleting(self._pod) and not self.running and not under_way

    def volumes(self) -> list[VolumeUse]:
        """Its volumes with files of their own, as far as they are made."""
        ref = PodRef(meta.namespace(self._pod), meta.name(self._pod), self.uid)
        return [VolumeUse(ref, *place) for place in self._volumes.places(self._pod)]

    def look_again(self) -> None:
        self._wake.set()

    def update(self, pod: Object) -> None:
        """Takes the API's newest word on the pod."""
        shorter = meta.deleting(self._pod) and deletion_grace(pod) < deletion_grace(self._pod)
        begins = meta.deleting(pod) and not meta.deleting(self._pod)
        if _known_of_itself(pod) != _known_of_itself(self._pod):
            self._stale_projections = True
        self._pod = pod
        if begins:
            self._cancel(self._starting)
        elif shorter:
            self._cancel(name for name in self._operations if name not in (FINISH, VOLUMES))
        self._wake.set()

    def removed(self) -> None:
        """The API has the pod no more: end what runs of it."""
        self._in_api = False
        if not meta.deleting(self._pod):
            pod = meta.copy(self._pod)
            pod["metadata"]["deletionTimestamp"] = meta.timestamp(self._kit.clock.now())
            pod["metadata"].setdefault("deletionGracePeriodSeconds", grace_period(pod))
            self.update(pod)
        self._wake.set()

    def image_came(self) -> None:
        """What waits for an image is tried now: it may be the one, or a way to it."""
        self._troubles.hurry(self._kit.clock.now(), OF_IMAGES)
        self._wake.set()

    def _cancel(self, names: Any) -> None:
        for name in list(names):
            task = self._operations.get(name)
            if task is not None:
                task.cancel()

    def _references_changed(self) -> None:
        self._stale_projections = True
        self._troubles.hurry(self._kit.clock.now())
        self._wake.set()

    async def run(self) -> None:
        """Until the pod is gone."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._prober = PodProber(
                group, self._kit.handlers, self._kit.clock, self.look_again, self._probe_told
            )
            reporter = group.create_task(self._reporter.run(), name="status")
            measuring = group.create_task(
                usage.watch(self._pod, self.disk_use, self._kit.clock, self.evict),
                name="disk usage",
            )
            try:
                while not self.gone:
                    self._wake.clear()
                    wake_at = self._step()
                    await self._wait(wake_at)
            finally:
                self._prober.stop()
                reporter.cancel()
                measuring.cancel()
                for task in self._operations.values():
                    task.cancel()

    async def _wait(self, until: datetime | None) -> None:
        if self.gone:
            return
        if until is None:
            await self._wake.wait()
            return
        seconds = (until - self._kit.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.01, seconds)):
                await self._wake.wait()
        except TimeoutError:
            return

    def _step(self) -> datetime | None:
        """One look: what to do is begun, what to say is handed over. Returns when to look again."""
        if not self._kit.records.complete:
            return None
        later = self._age_troubles()
        again = self._give()
        view = self._look()
        self._prober.follow(view, self._address(view))
        found = plan(self._look())
        for action in found.actions:
            self._begin(action, view)
        if self._evicted and not self._cleared and self._is_over():
            # What it had on the disk or in memory is what the node wants back; logs may stay.
            self._launch(VOLUMES, self._clear(()))
        renew = self._volumes_due()
        stale = self._stale_projections and VOLUMES not in self._operations
        # A pod that ends lets go of what it refers to: nothing may take that up again.
        if stale and not meta.deleting(self._pod):
            self._stale_projections = False
            self._launch(VOLUMES, self._refresh_volumes())
        self._report()
        times = [time for time in (found.wake_at, later, renew, again) if time is not None]
        return min(times) if times else None

    def _volumes_due(self) -> datetime | None:
        """Marks projections that are to be written again; else says when they will be."""
        phase = (self._pod.get("status") or {}).get("phase")
        due = self._volumes.refresh_at()
        if due is None or meta.deleting(self._pod) or phase in ("Succeeded", "Failed"):
            return None
        if due > self._kit.clock.now():
            return due
        self._stale_projections = VOLUMES not in self._operations
        return None

    def _give(self) -> datetime | None:
        """Gives the pod the resources it asks for, where the node has them. Returns when to try
        again."""
        if meta.deleting(self._pod) or self._given == resources_of(self._pod):
            self._resize = None
            return None
        others = (pod for pod in self._kit.pods() if meta.uid(pod) != self.uid)
        free = room(self._kit.allocatable, others)
        self._given, self._resize = decide(self._pod, self._given, free)
        if self._resize is None or self._resize.reason != DEFERRED:
            return None
        return self._kit.clock.now() + timedelta(seconds=RESIZE_RETRY)

    def _look(self) -> PodView:
        seen = Seen(
            records=self._kit.records.of(self.uid),
            busy=frozenset(self._operations),
            troubles=self._troubles.by_name,
            hooking=frozenset(self._starter.hooking),
            probes=self._prober.views(),
            now=self._kit.clock.now(),
            network=self._kit.network_ready(),
            ending=self._ending or self._refused(),
            resize=self._resize,
        )
        return look(as_given(self._reporter.latest(self._pod), self._given), seen)

    def _address(self, view: PodView) -> str:
        return pod_address(view, self._facts())

    def _facts(self) -> Facts:
        return Facts(
            host_ip=self._kit.node_ip,
            second_ips=self._kit.second_ips,
            scheme=self._kit.runtime.scheme,
            messages=self._last_words.by_id,
        )

    def _report(self) -> None:
        view = self._look()
        self._read_messages(view)
        if self._reading:
            # Said once, with the end of a container all that belongs to it.
            return
        status = pod_status(view, self._facts())
        self._complain(view.pod, status)
        if self._in_api and FINISH not in self._operations:
            self._reporter.report(view.pod, status)

    def _read_messages(self, view: PodView) -> None:
        for record in view.seen.records:
            later = self._last_words.read(record, self._spec_of(record.name))
            if later is not None:
                reading = self._group.create_task(later, name="last words")
                self._reading.add(reading)
                reading.add_done_callback(self._have_read)

    def _have_read(self, reading: asyncio.Task[None]) -> None:
        self._reading.discard(reading)
        self._wake.set()

    def _complain(self, pod: Object, status: Object) -> None:
        """Says once for each attempt that it waits for its back-off."""
        for entry in status["containerStatuses"] + status.get("initContainerStatuses", []):
            waiting = entry["state"].get("waiting") or {}
            once = (entry["name"], entry["restartCount"])
            if waiting.get("reason") != "CrashLoopBackOff" or once in self._complained:
                continue
            self._complained.add(once)
            message = (
                f"Back-off restarting failed container {entry['name']} in pod"
                f" {meta.name(pod)}_{meta.namespace(pod)}({self.uid})"
            )
            container_event(self._kit, pod, entry["name"], "Warning", "BackOff", message)

    # Operations

    def _begin(self, action: Action, view: PodView) -> None:
        match action:
            case CreateSandbox():
                self._launch(SANDBOX, self._create_sandbox(action, view), starting=True)
            case StartContainer():
                self._launch(action.name, self._start(action, view), starting=True)
            case KillContainer(record=record):
                self._prober.stop_for(record.id)
                self._launch(record.name, self._kill(action, view))
            case Resize(record=record):
                self._launch(record.name, self._stopper.limit(record, action.limits))
            case StopSandbox(record=record):
                self._launch(SANDBOX, self._stop_sandbox(record))
            case Remove(record=record):
                if record.name not in self._operations:
                    self._launch(record.name, self._stopper.remove(record))
            case Finish():
                if FINISH not in self._operations:
                    self._launch(FINISH, self._finish(view))

    def _launch(
        self, name: str, operation: Coroutine[Any, Any, None], *, starting: bool = False
    ) -> None:
        if name in self._operations:
            operation.close()
            return
        if starting:
            self._starting.add(name)
        self._operations[name] = self._group.create_task(
            self._run_operation(name, operation), name=f"{meta.key(self._pod)} {name}"
        )

    async def _run_operation(self, name: str, operation: Coroutine[Any, Any, None]) -> None:
        try:
            await operation
            self._troubles.forget(name)
        except StartProblem as problem:
            self._note(name, problem.reason, problem.message)
        except RuntimeFailure as failure:
            log.warning(
                "operation failed",
                extra={"pod": meta.key(self._pod), "on": name, "reason": str(failure)},
            )
            self._note(name, "RuntimeFailure", str(failure))
        except Exception as error:
            log.exception("operation failed", extra={"pod": meta.key(self._pod), "on": name})
            self._note(name, "InternalError", str(error))
        finally:
            self._operations.pop(name, None)
            self._starting.discard(name)
            self._wake.set()

    def _note(self, name: str, reason: str, message: str) -> None:
        self._troubles.note(name, reason, message, self._kit.clock.now())

    def _age_troubles(self) -> datetime | None:
        """A failed pull turns into one that waits. Returns when the next one will."""
        images = {container["name"]: container["image"] for container in self._containers()}
        turned, following = self._troubles.age(self._kit.clock.now(), self._operations, images)
        for name in turned:
            message = back_off_message(images.get(name, ""))
            container_event(self._kit, self._pod, name, "Normal", "BackOff", message)
            message = "Error: ImagePullBackOff"
            container_event(self._kit, self._pod, name, "Warning", "Failed", message)
        return following

    def _containers(self) -> list[Object]:
        return all_containers(self._pod)

    def _spec_of(self, name: str) -> Object | None:
        return next((c for c in self._containers() if c["name"] == name), None)

    async def _create_sandbox(self, step: CreateSandbox, view: PodView) -> None:
        id = await self._sandboxes.start(view.pod, step.attempt)
        await self._stopper.note(id)

    async def _start(self, step: StartContainer, view: PodView) -> None:
        container = next(c for c in all_containers(view.pod) if c["name"] == step.name)
        assert view.sandbox is not None
        await self._starter.start(view.pod, container, step, view.sandbox, self._address(view))

    async def _kill(self, step: KillContainer, view: PodView) -> None:
        container = self._spec_of(step.record.name)
        grace = float(deletion_grace(view.pod))
        probe = self._prober.views().get(step.record.id)
        if probe is not None and probe.failed and container is not None:
            own = probe_grace(container, probe.failed)
            grace = float(own) if own is not None else grace
        if self._evicted:
            grace = min(grace, EVICTION_GRACE)
        await self._stopper.kill(view.pod, container, step, grace, self._address(view))

    async def _stop_sandbox(self, record: Record) -> None:
        await self._kit.runtime.stop(record.id, 1)
        await self._stopper.note(record.id)

    async def _refresh_volumes(self) -> None:
        try:
            await self._volumes.ensure(self._pod, again=True)
        except VolumeError as error:
            pod_event(self._kit, self._pod, "Warning", "FailedMount", str(error))

    async def _finish(self, view: PodView) -> None:
        """The last status first: after it, containers and the pod itself can go."""
        self._prober.stop()
        if self._in_api:
            self._read_messages(view)
            if self._reading:
                await asyncio.wait(self._reading)
            await self._reporter.last_word(view.pod, pod_status(view, self._facts()))
        self._kit.pull_secrets.release(self.uid)
        for record in sorted(view.seen.records, key=lambda record: record.name == SANDBOX):
            await self._stopper.remove(record)
        try:
            await self._volumes.remove()
        except OSError as error:
            # Something is mounted there still, and may not be erased with the rest.
            pod_event(self._kit, view.pod, "Warning", "FailedUnMount", str(error))
            await self._kit.clock.sleep(UNMOUNT_RETRY)
            return
        if self._in_api:
            await self._reporter.delete(view.pod)
        self.gone = True

    # Making room

    @property
    def running(self) -> list[Record]:
        """The containers that run."""
        found = self._kit.records.of(self.uid)
        return [r for r in found if r.state == "running" and r.name != SANDBOX]

    async def disk_use(self) -> DiskUse:
        """Measured now."""
        return await usage.of_pod(
            self._pod,
            self._kit.records.of(self.uid),
            self._volumes.directory.volume_path,
            self._kit.runtime,
        )

    def evict(self, message: str) -> bool:
        """Ends the pod for good. False where it is ending already, or is critical."""
        phase = (self.pod.get("status") or {}).get("phase")
        over = self._ending is not None or phase in ("Succeeded", "Failed")
        if over or meta.deleting(self._pod) or eviction.is_critical(self._pod):
            return False
        pod_event(self._kit, self._pod, "Warning", eviction.REASON, message)
        self._ending = Ending(eviction.REASON, message, disrupts=True)
        self._cancel(self._starting)
        self._wake.set()
        return True

    @property
    def _evicted(self) -> bool:
        return self._ending is not None and self._ending.disrupts

    def reclaim(self) -> None:
        """Of a pod that is over, takes away what stays on the disk: containers with their logs, and
        emptyDirs. The pod itself stays."""
        if self._is_over():
            self._launch(VOLUMES, self._clear(self._kit.records.of(self.uid)))

    def _is_over(self) -> bool:
        """It has come to its end, nothing of it runs and nothing is under way; but it is there."""
        phase = (self.pod.get("status") or {}).get("phase")
        if phase not in ("Succeeded", "Failed") or self._operations or meta.deleting(self._pod):
            return False
        return all(record.state != "running" for record in self._kit.records.of(self.uid))

    async def _clear(self, records: Iterable[Record]) -> None:
        self._cleared = True
        for record in records:
            await self._stopper.remove(record)
        await self._volumes.erase_empty_dirs(self._pod)

    def _refused(self) -> Ending | None:
        """A pod of which nothing has run yet may be more than this node can do."""
        phase = (self._pod.get("status") or {}).get("phase") or "Pending"
        if phase != "Pending" or self._kit.records.of(self.uid):
            self._admitted = True
            return None
        found = refusal(self._pod)
        if found is None and not self._admitted:
            # What the node is short of now it was not when it took the pod on.
            found = self._kit.refused(self._pod)
            self._admitted = True
        if found is not None:
            pod_event(self._kit, self._pod, "Warning", found.reason, found.message)
            found = found._replace(message=f"Pod was rejected: {found.message}")
            self._ending = found
        return found

    def _probe_told(self, name: str, reason: str, message: str) -> None:
        container_event(self._kit, self._pod, name, "Warning", reason, message)


def _known_of_itself(pod: Object) -> tuple[Object, Object]:
    """What downward API volumes show that may change."""
    return meta.labels(pod), meta.annotations(pod)


def adopted(record: Record) -> Object:
    """A pod of which only the runtime knows, as an object that is being deleted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": record.pod.name,
            "namespace": record.pod.namespace,
            "uid": record.pod.uid,
            "deletionTimestamp": meta.timestamp(record.created),
            "deletionGracePeriodSeconds": record.grace_period,
        },
        "spec": {"containers": []},
    }
