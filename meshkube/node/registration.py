"""Registers this host as a Node and keeps it so: status on change, and a Lease as heartbeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import Type
from meshkube.clock import Clock
from meshkube.node import nodestatus
from meshkube.node.claims import LOCAL_PATH
from meshkube.node.machine import Machine
from meshkube.node.thresholds import Condition

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
HEARTBEAT = 5.0
# The Lease says that the node may miss this many heartbeats.
MISSED_HEARTBEATS = 4
ANSWER_TIMEOUT = 10.0
# What only the machine knows, such as pressure, is read this often.
LOOK_EVERY = 10.0
# The status is written on change, and at least this often.
STATUS_EVERY = 300.0
FIRST_DELAY = 0.2
LONGEST_DELAY = 7.0


class Registration:
    """The Node of this host, `name`, at `addresses`. `not_ready` says why no pod can run, or '';
    `tell` records an Event of the node."""

    def __init__(
        self,
        *,
        client: Client,
        clock: Clock,
        name: str,
        addresses: Sequence[str],
        port: int,
        heartbeat: float,
        roles: tuple[str, ...],
        annotations: Mapping[str, str],
        version: str,
        machine: Machine,
        max_pods: int,
        data_dir: Path,
        not_ready: Callable[[], str],
        pressure: Callable[[], Collection[Condition]],
        tell: Callable[[Type, str, str], None],
        images: Callable[[], list[Object] | None],
        runtime_version: Callable[[], str],
    ) -> None:
        self._client = client
        self._clock = clock
        self._name = name
        self._addresses = addresses
        self._port = port
        self._heartbeat = heartbeat
        self._roles = roles
        self._version = version
        self._machine = machine
        self._max_pods = max_pods
        self._annotations = {LOCAL_PATH: str(data_dir / "volumes"), **annotations}
        self._not_ready = not_ready
        self._pressure = pressure
        self._tell = tell
        self._images = images
        self._runtime_version = runtime_version
        self._wake = asyncio.Event()
        self._registered = asyncio.Event()
        self._written_at = float("-inf")
        self.node: Object | None = None
        """As last seen or written."""

    @property
    def was_ready(self) -> bool:
        """Whether the Node, as it is, says Ready."""
        conditions = ((self.node or {}).get("status") or {}).get("conditions") or ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def look_again(self) -> None:
        """Something in the status may have changed."""
        self._wake.set()

    def seen(self, node: Object | None) -> None:
        """What a watch says of the Node."""
        self.node = node
        self._wake.set()

    async def run(self) -> None:
        """Keeps Node and Lease current until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._keep_node), name="node status")
            group.create_task(self._forever(self._keep_lease), name="node lease")

    async def _forever(self, step: Callable[[], object]) -> None:
        delay = FIRST_DELAY
        longest = min(LONGEST_DELAY, self._heartbeat)
        while True:
            try:
                await step()  # type: ignore[misc]
                delay = FIRST_DELAY
                continue
            except ApiError as error:
                log.warning("the API refused the node's heartbeat", extra={"reason": str(error)})
            except TimeoutError:
                log.warning("the API did not answer the node's heartbeat")
            await self._clock.sleep(delay)
            delay = min(delay * 2, longest)

    async def _keep_node(self) -> None:
        self._wake.clear()
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await self.register()
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._wake.wait()
        except TimeoutError:
            return

    async def register(self) -> None:
        """Makes the Node where it is missing; corrects its labels and status where they differ."""
        if self.node is None:
            try:
                self.node = await self._client.get(kinds.NODE, self._name)
            except ApiError as error:
                if error.code != 404:
                    raise
                node = nodestatus.new_node(
                    self._name, self._machine, self._roles, self._status({}), self._annotations
                )
                self.node = await self._client.create(kinds.NODE, node)
                for reason in nodestatus.turned({}, node["status"]):
                    self._say(reason)
        self._registered.set()
        await self._correct_labels(self.node)
        await self._correct_status(self.node)

    def _status(self, old: Object) -> Object:
        return nodestatus.status(
            name=self._name,
            addresses=self._addresses,
            port=self._port,
            machine=self._machine,
            max_pods=self._max_pods,
            pressure=self._pressure(),
            runtime=self._runtime_version(),
            version=self._version,
            not_ready=self._not_ready(),
            images=self._images(),
            old=old,
            now=self._clock.now(),
        )

    async def _correct_labels(self, node: Object) -> None:
        wanted = nodestatus.labels(self._name, self._machine, self._roles)
        noted = self._annotations
        if (
            wanted.items() <= meta.labels(node).items()
            and noted.items() <= meta.annotations(node).items()
        ):
            return
        patch = {"metadata": {"labels": wanted, "annotations": noted}}
        self.node = await self._client.patch(kinds.NODE, self._name, patch, type="merge")

    async def _correct_status(self, node: Object) -> None:
        old = node.get("status") or {}
        new = self._status(old)
        now = self._clock.monotonic()
        if not nodestatus.changed(old, new) and now - self._written_at < STATUS_EVERY:
            return
        self.node = await self._client.patch(
            kinds.NODE,
            self._name,
            {"status": nodestatus.patch(old, new)},
            type="strategic",
            subresource="status",
            field_manager="kubelet",
        )
        self._written_at = now
        for reason in nodestatus.turned(old, new):
            self._say(reason)
        boot = nodestatus.rebooted(old, new)
        if boot:
            message = f"Node {self._name} has been rebooted, boot id: {boot}"
            self._tell("Warning", "Rebooted", message)

    def _say(self, reason: str) -> None:
        self._tell("Normal", reason, f"Node {self._name} status is now: {reason}")

    async def _keep_lease(self) -> None:
        # The Lease belongs to the Node, so that one goes with the other.
        await self._registered.wait()
        begun = self._clock.monotonic()
        # A request that hangs must not keep the next one from another server.
        async with asyncio.timeout(max(self._heartbeat, 2.0)):
            await self._renew()
        await self._clock.sleep(max(0.0, begun + self._heartbeat - self._clock.monotonic()))

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": max(1, round(self._heartbeat * MISSED_HEARTBEATS)),
            "renewTime": meta.micro_timestamp(self._clock.now()),
        }
        try:
            await self._client.patch(
                kinds.LEASE, self._name, {"spec": spec}, LEASE_NAMESPACE, type="merge"
            )
        except ApiError as error:
            if error.code != 404:
                raise
            lease: Object = {
                "apiVersion": kinds.LEASE.api_version,
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": LEASE_NAMESPACE},
                "spec": spec,
            }
            if self.node is not None:
                owner = meta.owner_reference(kinds.NODE, self.node)
                lease["metadata"]["ownerReferences"] = [
                    {
                        k: v
                        for k, v in owner.items()
                        if k not in ("controller", "blockOwnerDeletion")
                    }
                ]
            await self._client.create(kinds.LEASE, lease)
