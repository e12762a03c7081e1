"""The node agent: the part that runs this node's pods.

It follows two things, the API's pods bound to this node and the runtime's containers, and keeps a
worker for each pod. Either may be away for a while: what runs goes on, and what differs is put
right when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder, Type
from meshkube.client.informer import Informers
from meshkube.clock import Clock, SystemClock
from meshkube.node import nodestatus, reachable
from meshkube.node.fitting import misfit
from meshkube.node.handlers import Handlers
from meshkube.node.housekeeping import Housekeeping, Room
from meshkube.node.image_peers import ImagePeers
from meshkube.node.images import Images
from meshkube.node.kit import Kit
from meshkube.node.local_volumes import LocalVolumes
from meshkube.node.log_links import LogLinks
from meshkube.node.machine import default_address, host_resolver, read_machine
from meshkube.node.pull_secrets import PullSecrets
from meshkube.node.records import Records, look_at, look_at_all
from meshkube.node.references import References
from meshkube.node.refusals import Ending
from meshkube.node.registration import HEARTBEAT, Registration
from meshkube.node.runtime import Runtime, RuntimeFailure
from meshkube.node.use import VolumeUse
from meshkube.node.version import KUBELET_VERSION
from meshkube.node.worker import PodWorker, adopted

log = logging.getLogger(__name__)

NODE_PORT = 10250
# Without the runtime for this long the node says NotReady, and its pods leave their Services. What
# runs may well go on meanwhile (Docker's live restore); the kubelet is as patient.
RUNTIME_PATIENCE = 30.0
# Everything is listed anew this often, whatever events said.
RELIST = 60.0
EVENTS_AT_ONCE = 4
"""So that a pod's status does not wait behind what is said about others."""
FIRST_DELAY = 0.25
LONGEST_DELAY = 10.0


class NodeAgent:
    """Part `node`."""

    name = "node"

    def __init__(
        self,
        *,
        client: Client,
        runtime: Runtime,
        node_name: str,
        data_dir: Path,
        cluster_dns: str,
        cluster_domain: str = "cluster.local",
        node_ip: str = "",
        second_ips: Sequence[str] = (),
        api: tuple[str, int] | None = None,
        port: int = NODE_PORT,
        heartbeat: float = HEARTBEAT,
        peers: ImagePeers | None = None,
        roles: Iterable[str] = (),
        annotations: Mapping[str, str] | None = None,
        version: str = KUBELET_VERSION,
        max_pods: int = nodestatus.MAX_PODS,
        registry_config: Path | None = None,
        room: Room | None = None,
        pod_logs: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._runtime = runtime
        self._clock: Clock = clock or SystemClock()
        self._name = node_name
        self._address = node_ip or default_address()
        self._second_ips = tuple(second_ips)
        self._data_dir = data_dir
        self._registry_config = registry_config
        self._machine = read_machine(data_dir)
        self._cluster = (cluster_dns, cluster_domain)
        self._api = api
        self._records = Records(self._container_changed)
        self._log_links = LogLinks(pod_logs or data_dir / "logs/pods")
        self._logs_changed: set[str] = set()
        self._logs_wake = asyncio.Event()
        self._workers: dict[str, PodWorker] = {}
        self._pods_known = False
        self._runtime_version = ""
        self._runtime_trouble = "container runtime is not known yet"
        self._runtime_lost_at: float | None = None
        self._began = self._clock.monotonic()
        self._settled = False
        """Whether the runtime and the network were seen to work since the start."""
        self._network_cidrs: tuple[str, ...] = ()
        self._network_trouble = "container runtime network not ready: no podCIDR assigned to node"
        self._network_wake = asyncio.Event()
        self.images = Images(runtime, self._clock, data_dir, peers, self._images_changed)
        """What is here, for whoever serves images too."""
        self._registration = Registration(
            client=client,
            clock=self._clock,
            name=node_name,
            addresses=(self._address, *second_ips),
            port=port,
            heartbeat=heartbeat,
            roles=tuple(roles),
            annotations=annotations or {},
            version=version,
            machine=self._machine,
            max_pods=max_pods,
            data_dir=data_dir,
            not_ready=self._not_ready,
            pressure=lambda: self._housekeeping.conditions,
            tell=self._tell,
            images=self.images.report,
            runtime_version=lambda: self._runtime_version or f"{runtime.scheme}://unknown",
        )
        self._recorder: EventRecorder | None = None
        self._housekeeping = Housekeeping(
            room=room or Room(),
            clock=self._clock,
            runtime=runtime,
            images=self.images,
            records=self._records,
            data_dir=data_dir,
            tenants=self._tenants,
            uids=self._known_uids,
            tell=self._tell,
            changed=self._registration.look_again,
        )

    @property
    def address(self) -> str:
        """The node's own address."""
        return self._address

    @property
    def records(self) -> Records:
        """What runs, for whoever serves logs and exec."""
        return self._records

    def pods(self) -> list[Object]:
        """The pods of this node, as last written or seen."""
        return [worker.pod for worker in self._workers.values()]

    def volumes(self) -> list[VolumeUse]:
        """The volumes of these pods that have files of their own."""
        return [volume for worker in self._workers.values() for volume in worker.volumes()]

    def _not_ready(self) -> str:
        if not self._settled and self._registration.was_ready and self._recent:
            # Started again: what the last one said holds until this one knows better. Otherwise
            # every pod would leave its Services with each restart of a slow host.
            return ""
        lost = self._runtime_lost_at
        if lost is not None and self._clock.monotonic() - lost < RUNTIME_PATIENCE:
            return self._network_trouble
        return self._runtime_trouble or self._network_trouble

    @property
    def _recent(self) -> bool:
        return self._clock.monotonic() - self._began < RUNTIME_PATIENCE

    async def run(self, ready: Callable[[], None]) -> None:
        """Registers the node and runs its pods, until cancelled; pods go on running then."""
        try:
            await self._run(ready)
        finally:
            await self._runtime.close()

    async def _run(self, ready: Callable[[], None]) -> None:
        self._workers.clear()
        self._pods_known = False
        informers = Informers(self._client)
        services = informers.of(kinds.SERVICE)
        pods = informers.of(kinds.POD, fields=f"spec.nodeName={self._name}")
        node = informers.of(kinds.NODE, fields=f"metadata.name={self._name}")
        volumes = LocalVolumes(self._client, self._name, self._data_dir / "volumes", self._clock)
        self._recorder = recorder = EventRecorder(
            self._client, "kubelet", self._name, self._clock, at_once=EVENTS_AT_ONCE
        )
        # Before the first pod is looked at: it may be one too many.
        await self._housekeeping.observe()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._kit = self._make_kit(group, recorder, services.list)
            node.subscribe(self._node_changed)
            group.create_task(recorder.run(), name="events")
            group.create_task(informers.run(), name="informers")
            group.create_task(volumes.run(recorder), name="volumes")
            group.create_task(self._registration.run(), name="registration")
            group.create_task(self._follow_runtime(), name="runtime")
            group.create_task(self._keep_network(), name="network")
            group.create_task(self._keep_log_links(), name="log links")
            await informers.wait_synced()
            pods.subscribe(self._pod_changed)
            self._pods_known = True
            self._adopt_orphans()
            self._tell("Normal", "Starting", "Starting kubelet.")
            group.create_task(self._housekeeping.run(), name="housekeeping")
            ready()
            await asyncio.Event().wait()

    def _make_kit(
        self,
        group: asyncio.TaskGroup,
        recorder: EventRecorder,
        services: Callable[[], Iterable[Object]],
    ) -> Kit:
        references = References(self._client, group)
        files = (self._registry_config,) if self._registry_config else ()
        return Kit(
            client=self._client,
            runtime=self._runtime,
            clock=self._clock,
            recorder=recorder,
            records=self._records,
            references=references,
            images=self.images,
            pull_secrets=PullSecrets(references, files),
            handlers=Handlers(self._runtime),
            services=lambda: reachable.by_pods(services(), self._address, self._api),
            node_name=self._name,
            node_ip=self._address,
            second_ips=self._second_ips,
            pods_directory=self._data_dir / "pods",
            seccomp_directory=self._data_dir / "seccomp",
            cluster_dns=self._cluster[0],
            cluster_domain=self._cluster[1],
            host_resolver=host_resolver,
            allocatable=nodestatus.allocatable(self._machine),
            memory_capacity=self._machine.memory,
            network_ready=lambda: not self._network_trouble,
            refused=self._refused,
            pods=self.pods,
        )

    # Pods

    def _refused(self, pod: Object) -> Ending | None:
        """Why a new pod is not taken on now: the node runs short of something, or has no place."""
        short = self._housekeeping.refused(pod)
        node = self._registration.node
        if short is not None or node is None:
            return short
        others = (w.place for uid, w in self._workers.items() if uid != meta.uid(pod))
        return misfit(pod, (place for place in others if place is not None), node)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or meta.uid(new) != meta.uid(old)):
            worker = self._workers.get(meta.uid(old))
            if worker is not None:
                worker.removed()
        if new is None:
            return
        worker = self._workers.get(meta.uid(new))
        if worker is not None:
            worker.update(new)
        else:
            self._start_worker(new)

    def _start_worker(self, pod: Object) -> PodWorker:
        worker = self._workers[meta.uid(pod)] = PodWorker(self._kit, pod)
        self._group.create_task(self._run_worker(worker), name=f"pod {meta.key(pod)}")
        return worker

    async def _run_worker(self, worker: PodWorker) -> None:
        delay = FIRST_DELAY
        while not worker.gone:
            try:
                await worker.run()
            except Exception:
                log.exception("pod worker failed", extra={"uid": worker.uid})
                await self._clock.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)
        if self._workers.get(worker.uid) is worker:
            del self._workers[worker.uid]
        self._adopt_orphans()

    def _container_changed(self, uid: str) -> None:
        self._logs_changed.add(uid)
        self._logs_wake.set()
        worker = self._workers.get(uid)
        if worker is not None:
            worker.look_again()
        else:
            self._adopt_orphans()

    async def _keep_log_links(self) -> None:
        """A node whose logs nobody can find still runs its pods."""
        await asyncio.to_thread(self._log_links.sweep)
        self._logs_changed |= self._records.uids()
        while True:
            changed, self._logs_changed = self._logs_changed, set()
            try:
                for uid in changed:
                    records = self._records.of(uid)
                    await asyncio.to_thread(self._log_links.keep, uid, records)
            except OSError as error:
                log.warning("log links not made", extra={"reason": str(error)})
            await self._logs_wake.wait()
            self._logs_wake.clear()

    def _adopt_orphans(self) -> None:
        """Ends what runs of pods that are no more. Only once both sides are fully known."""
        if not (self._records.complete and self._pods_known):
            return
        for uid in self._records.uids() - self._workers.keys():
            record = self._records.of(uid)[0]
            log.info(
                "ends an orphaned pod", extra={"pod": f"{record.pod.namespace}/{record.pod.name}"}
            )
            self._start_worker(adopted(record)).removed()

    def _all_look_again(self) -> None:
        for worker in list(self._workers.values()):
            worker.look_again()

    # Room on the node

    def _tell(self, type: Type, reason: str, message: str) -> None:
        """Records an Event of the node."""
        # Before it is known, by its name: kubectl looks for both.
        node = self._registration.node or {"metadata": {"name": self._name, "uid": self._name}}
        if self._recorder is not None:
            about = {"apiVersion": "v1", "kind": "Node", **node}
            self._recorder.event(about, type, reason, message)

    def _tenants(self) -> list[PodWorker]:
        """None before it is known what they have here."""
        return list(self._workers.values()) if self._records.complete else []

    def _known_uids(self) -> set[str] | None:
        if not (self._records.complete and self._pods_known):
            return None
        return self._records.uids() | self._workers.keys()

    # The runtime

    async def _follow_runtime(self) -> None:
        delay = FIRST_DELAY
        while True:
            reason = "it ended the stream of its changes"
            try:
                await self._runtime_session()
            except* RuntimeFailure as failures:
                reason = str(failures.exceptions[0])
            if not self._runtime_trouble:
                # It had answered: this is a new loss.
                delay = FIRST_DELAY
            self._runtime_lost(reason)
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _runtime_session(self) -> None:
        async with asyncio.TaskGroup() as group:
            relist = group.create_task(self._relist_often(), name="relist")
            try:
                async with contextlib.aclosing(self._runtime.watch()) as changes:
                    async for id in changes:
                        if id:
                            await look_at(self._runtime, self._records, id)
                        else:
                            await self._runtime_found()
            finally:
                relist.cancel()

    async def _runtime_found(self) -> None:
        info = await self._runtime.info()
        self._runtime_version = f"{info.name}://{info.version}"
        await look_at_all(self._runtime, self._records)
        if self._runtime_trouble:
            log.info("container runtime answers", extra={"version": self._runtime_version})
        self._runtime_trouble = ""
        self._runtime_lost_at = None
        self._network_wake.set()
        self._registration.look_again()
        self._adopt_orphans()
        self._all_look_again()
        await self._housekeeping.found(info.directory)
        await self.images.refresh()

    def _images_changed(self) -> None:
        self._registration.look_again()
        for worker in list(self._workers.values()):
            worker.image_came()

    def _runtime_lost(self, reason: str) -> None:
        if not self._runtime_trouble:
            log.warning("container runtime is away", extra={"reason": reason})
            self._runtime_lost_at = self._clock.monotonic()
        self._runtime_trouble = f"container runtime is down: {reason}"
        self._registration.look_again()

    async def _relist_often(self) -> None:
        while True:
            await self._clock.sleep(RELIST)
            if not self._runtime_trouble:
                await look_at_all(self._runtime, self._records)
                await self.images.refresh()

    # The network

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        self._registration.seen(new)
        spec = (new or {}).get("spec") or {}
        cidrs = tuple(spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")]))
        if cidrs and cidrs != self._network_cidrs:
            self._network_cidrs = cidrs
            self._network_wake.set()

    async def _keep_network(self) -> None:
        while True:
            await self._network_wake.wait()
            self._network_wake.clear()
            if not self._network_cidrs or self._runtime_trouble:
                continue
            try:
                await self._runtime.ensure_network(self._network_cidrs)
                self._network_trouble = ""
                self._settled = True
            except RuntimeFailure as failure:
                self._network_trouble = f"container runtime network not ready: {failure}"
                log.warning("network not made", extra={"reason": str(failure)})
            self._registration.look_again()
            self._all_look_again()
            if self._network_trouble:
                await self._clock.sleep(1.0)
                self._network_wake.set()
