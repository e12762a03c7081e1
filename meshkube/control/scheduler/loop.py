"""The scheduler's shell: takes pending pods in turn, decides, binds, says why not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock
from meshkube.control import indexes, pods, volumes
from meshkube.control.queue import WorkQueue
from meshkube.control.scheduler.binding import Held, VolumeBinding
from meshkube.control.scheduler.filters import grants
from meshkube.control.scheduler.model import PodInfo, Snapshot, counts, place_all
from meshkube.control.scheduler.preemption import Nomination
from meshkube.control.scheduler.preemptor import Preemptor
from meshkube.control.scheduler.schedule import schedule
from meshkube.control.scheduler.volumes import Grant
from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)

NAME = "default-scheduler"
BINDS = 32
"""Bindings in flight; the store commits them in groups."""
FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 10.0
"""Seconds a pod that fitted nowhere waits, at the first and at later changes of the cluster."""
LOOK_AGAIN = 300.0
TURN = 0.01
"""Seconds of deciding after which other tasks get their turn."""

SECONDS = Histogram(
    "meshkube_control_scheduling_seconds",
    "Time of one decision",
    registry=REGISTRY,
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1),
)
RESULTS = Counter("meshkube_control_scheduling_results", "Decisions", ["result"], registry=REGISTRY)
PENDING = Gauge("meshkube_control_scheduling_pending", "Pods that wait", registry=REGISTRY)


class Outcome(NamedTuple):
    """A decision to be written: the pod's node, or why there is none."""

    pod: Object
    node: str
    message: str = ""
    grants: Sequence[Grant] = ()
    """What its claims get before it is bound."""
    nomination: Nomination | None = None
    """Which pods are ended for it."""


class Scheduler:
    """Places pods whose `schedulerName` is `default-scheduler`. Made once; each `run` is one term
    of leadership."""

    def __init__(
        self, client: Client, caches: Informers, events: EventRecorder, clock: Clock
    ) -> None:
        self._client = client
        self._pods = caches.of(kinds.POD)
        self._nodes = caches.of(kinds.NODE)
        self._namespaces = caches.of(kinds.NAMESPACE)
        self._events = events.named(NAME)
        self._clock = clock
        self._preemptor = Preemptor(client, caches, self._events, clock)
        self._active = False
        self._volumes = VolumeBinding(client, caches)
        self._reset()
        self._pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)
        self._namespaces.subscribe(self._namespace_changed)
        caches.of(kinds.PERSISTENT_VOLUME_CLAIM).subscribe(self._claim_changed)
        for kind in (kinds.PERSISTENT_VOLUME, kinds.STORAGE_CLASS):
            caches.of(kind).subscribe(self._storage_changed)

    def _reset(self) -> None:
        self._snapshot = Snapshot()
        self._known = self._snapshot.known()
        self._queue = WorkQueue(self._rank)
        self._unschedulable: dict[str, int] = {}
        """How often each pod has fitted nowhere."""
        self._parked: set[str] = set()
        self._start = 0
        self._outbox: asyncio.Queue[Outcome] = asyncio.Queue()
        self._volumes.reset()

    async def run(self) -> None:
        """Works until cancelled."""
        self._reset()
        live = [pod for pod in self._pods.list() if not pods.finished(pod)]
        place_all(self._snapshot, self._nodes.list(), live)
        self._known = self._snapshot.known()
        for space in self._namespaces.list():
            self._snapshot.namespaces[meta.name(space)] = meta.labels(space)
        PENDING.set_function(lambda: len(self._queue) + len(self._parked))
        self._active = True
        for pod in live:
            if _wants_node(pod):
                self._queue.add(meta.key(pod))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._decide())
                group.create_task(self._look_again())
                for _ in range(BINDS):
                    group.create_task(self._deliver())
        finally:
            self._active = False
            self._queue.close()

    def _rank(self, key: str) -> int:
        """The important ones first."""
        return -int(((self._pods.get(key) or {}).get("spec") or {}).get("priority") or 0)

    # What changes around it.

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        if not self._active:
            return
        if new is None:
            self._snapshot.namespaces.pop(meta.name(old or {}), None)
        elif self._snapshot.namespaces.get(meta.name(new)) != meta.labels(new):
            self._snapshot.namespaces[meta.name(new)] = meta.labels(new)
            self._wake()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if not self._active:
            return
        if old is not None and (new is None or meta.uid(new) != meta.uid(old)):
            self._gone(old)
        if new is None:
            return
        if pods.finished(new):
            self._gone(new)
        elif pods.node_name(new):
            if (
                old is None
                or not self._snapshot.placed(meta.uid(new))
                or counts(old) != counts(new)
            ):
                self._snapshot.set_pod(PodInfo.of(new))
            self._volumes.forget(new)
            self._forget(meta.key(new))
        elif _wants_node(new) and _changed(old, new):
            self._parked.discard(meta.key(new))
            self._queue.add(meta.key(new))

    def _gone(self, pod: Object) -> None:
        uid = meta.uid(pod)
        frees = self._snapshot.placed(uid)
        self._volumes.forget(pod)
        self._snapshot.remove_pod(uid)
        self._forget(meta.key(pod))
        if frees:
            self._wake()

    def _forget(self, key: str) -> None:
        self._unschedulable.pop(key, None)
        self._parked.discard(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if not self._active:
            return
        if new is None:
            self._snapshot.remove_node(meta.name(old or {}))
        else:
            if old is not None and _as_seen(old) == _as_seen(new):
                return
            self._snapshot.set_node(new)
        self._known = self._snapshot.known()
        if new is not None:
            self._wake()

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new if new is not None else old
        if not self._active or claim is None:
            return
        users = self._pods.by_index(indexes.CLAIM, meta.key(claim))
        for held in self._volumes.completed(users):
            self._outbox.put_nowait(Outcome(held.pod, held.node))
        for held in self._volumes.given_up(users, old, new):
            self._give_up(held, claim)
        if old is None or new is None or volumes.is_bound(old) != volumes.is_bound(new):
            for key in map(meta.key, users):
                if key in self._parked:
                    self._parked.discard(key)
                    self._queue.add(key)

    def _give_up(self, held: Held, claim: Object) -> None:
        message = (
            'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC'
            f' "{meta.name(claim)}"'
        )
        key = meta.key(held.pod)
        tries = self._unschedulable[key] = self._unschedulable.get(key, 0) + 1
        self._outbox.put_nowait(Outcome(held.pod, "", message))
        self._again(held.pod, _backoff(tries))

    def _storage_changed(self, old: Object | None, new: Object | None) -> None:
        """A volume or a class: pods that wait for one may fit now."""
        if not self._active or new is None:
            return
        if old is not None and old.get("spec") == new.get("spec"):
            return
        waiting = [key for key in self._parked if _has_claims(self._pods.get(key))]
        self._parked.difference_update(waiting)
        for key in waiting:
            self._queue.add_after(key, FIRST_BACKOFF)

    def _wake(self) -> None:
        """Something may fit now that did not before."""
        parked, self._parked = self._parked, set()
        for key in parked:
            self._queue.add_after(key, _backoff(self._unschedulable.get(key, 1)))

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(LOOK_AGAIN)
            self._wake()

    # One decision after the other, each on what the ones before it took.

    async def _decide(self) -> None:
        began = perf_counter()
        while True:
            key = await self._queue.get()
            self._queue.done(key)
            pod = self._pods.get(key)
            if pod is not None and _wants_node(pod) and not self._snapshot.placed(meta.uid(pod)):
                self._one(key, pod)
            if perf_counter() - began > TURN:
                await asyncio.sleep(0)
                began = perf_counter()

    def _one(self, key: str, pod: Object) -> None:
        began = perf_counter()
        info = PodInfo.of(pod)
        info.volumes = self._volumes.look(pod)
        decision = schedule(
            info,
            self._known,
            self._start,
            namespaces=self._snapshot.namespaces,
            budgets=self._preemptor.budgets,
        )
        if self._known:
            self._start = (self._start + decision.looked_at) % len(self._known)
        if decision.node:
            given = grants(info, self._snapshot.nodes[decision.node]) or ()
            self._snapshot.assume(info, decision.node)
            self._volumes.reserve(pod, given)
            self._outbox.put_nowait(Outcome(pod, decision.node, "", given))
        else:
            self._unschedulable[key] = self._unschedulable.get(key, 0) + 1
            self._parked.add(key)
            if decision.nomination is not None:
                self._snapshot.nominate(info, decision.nomination.node)
            self._outbox.put_nowait(
                Outcome(pod, "", decision.message, nomination=decision.nomination)
            )
        RESULTS.labels("scheduled" if decision.node else "unschedulable").inc()
        SECONDS.observe(perf_counter() - began)

    # Decisions become writes.

    async def _deliver(self) -> None:
        while True:
            pod, node, message, given, nomination = await self._outbox.get()
            try:
                if not node:
                    await self._explain(pod, message, nomination)
                    if nomination is not None:
                        await self._preemptor.carry_out(pod, nomination)
                elif not given or await self._granted(pod, node, given):
                    await self._bind(pod, node)
            except Exception:
                log.exception("a decision was not written", extra={"pod": meta.key(pod)})

    async def _granted(self, pod: Object, node: str, given: Sequence[Grant]) -> bool:
        """False while the pod waits for its volumes, or must be placed anew."""
        try:
            return await self._volumes.grant(pod, node, given)
        except BaseException as error:
            self._unbound(pod, error)
            if not isinstance(error, ApiError):
                raise
            return False

    async def _bind(self, pod: Object, node: str) -> None:
        name, space = meta.name(pod), meta.namespace(pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": space, "uid": meta.uid(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(kinds.POD, binding, space, subresource="binding")
        except BaseException as error:
            self._unbound(pod, error)
            if not isinstance(error, ApiError):
                raise
            return
        message = f"Successfully assigned {space}/{name} to {node}"
        self._events.event(pod, "Normal", "Scheduled", message)

    def _unbound(self, pod: Object, error: BaseException) -> None:
        key = meta.key(pod)
        self._again(pod)
        log.debug("pod not bound", extra={"pod": key, "error": str(error)})

    def _again(self, pod: Object, delay: float = FIRST_BACKOFF) -> None:
        """It was not bound after all: it is placed anew."""
        key = meta.key(pod)
        self._volumes.forget(pod)
        current = self._pods.get(key)
        if current is None or not pods.node_name(current):
            self._snapshot.remove_pod(meta.uid(pod))
            self._queue.add_after(key, delay)

    async def _explain(self, pod: Object, message: str, nomination: Nomination | None) -> None:
        self._events.event(pod, "Warning", "FailedScheduling", message)
        node = nomination.node if nomination is not None else ""
        before = pods.condition(pod, "PodScheduled")
        told = before and before.get("status") == "False" and before.get("message") == message
        if told and (not node or (pod.get("status") or {}).get("nominatedNodeName") == node):
            return
        entry: Object = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": meta.timestamp(self._clock.now()),
        }
        changed = meta.copy(pod)
        pods.set_condition(changed.setdefault("status", {}).setdefault("conditions", []), entry)
        if node:
            changed["status"]["nominatedNodeName"] = node
        try:
            await self._client.update(kinds.POD, changed, subresource="status")
        except ApiError as error:
            log.debug("reason not written", extra={"pod": meta.key(pod), "error": error.message})


def _backoff(tries: int) -> float:
    return float(min(FIRST_BACKOFF * 2 ** min(tries - 1, 10), LONGEST_BACKOFF))


def _has_claims(pod: Object | None) -> bool:
    return pod is not None and any(True for _ in volumes.claims_of(pod))


def _wants_node(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    return (
        not spec.get("nodeName")
        and (spec.get("schedulerName") or NAME) == NAME
        and not spec.get("schedulingGates")
        and not meta.deleting(pod)
        and not pods.finished(pod)
    )


def _changed(old: Object | None, new: Object) -> bool:
    """Apart from its status, which is our own word on it."""
    if old is None or meta.uid(old) != meta.uid(new):
        return True
    return old.get("spec") != new.get("spec") or meta.labels(old) != meta.labels(new)


def _as_seen(node: Object) -> tuple[object, ...]:
    """What placing depends on: heartbeats and conditions do not count."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return (
        meta.labels(node),
        meta.annotations(node).get(volumes.DIRECTORY),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        status.get("images"),
    )
