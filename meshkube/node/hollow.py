"""A Runtime without containers: every pod runs at once, with an address out of the pod CIDR.

For scale runs and fast tests: all around it stays real. It forgets everything when it ends.
"""

from __future__ import annotations

import asyncio
import builtins
import itertools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from meshkube.clock import Clock, SystemClock
from meshkube.node.disk_usage import Taken
from meshkube.node.registry_auth import Credential
from meshkube.node.runtime import (
    SANDBOX,
    ContainerSpec,
    Image,
    ImageArchiveFailure,
    Limits,
    LocalImage,
    LogOptions,
    NotFound,
    Output,
    Process,
    Record,
    RuntimeFailure,
    RuntimeInfo,
    SandboxSpec,
    Stats,
)
from meshkube.tunnel.pipe import StreamPipe

NO_PROCESS = "a hollow node runs no process"


class HollowRuntime:
    """Containers as records alone."""

    scheme = "hollow"
    answers = False

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._records: dict[str, Record] = {}
        self._host_network: set[str] = set()
        self._watchers: set[asyncio.Queue[str]] = set()
        self._addresses: Iterator[str] = iter(())
        self._free: list[str] = []
        self._cidr = ""
        self._second: IPv4Network | IPv6Network | None = None

    async def info(self) -> RuntimeInfo:
        return RuntimeInfo("hollow", "1")

    async def close(self) -> None:
        """Nothing is held open; the records last as long as this object."""

    async def ensure_network(self, cidrs: Sequence[str]) -> None:
        cidr, *others = cidrs
        self._second = ip_network(others[0]) if others else None
        if cidr == self._cidr:
            return
        self._cidr = cidr
        # The first address would be the bridge's own.
        self._addresses = itertools.islice(map(str, ip_network(cidr).hosts()), 1, None)
        self._free.clear()

    async def watch(self) -> AsyncGenerator[str, None]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield ""
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    def _changed(self, id: str) -> None:
        for queue in self._watchers:
            queue.put_nowait(id)

    async def list(self) -> list[Record]:
        return list(self._records.values())

    async def inspect(self, id: str) -> Record | None:
        return self._records.get(id)

    def _put(self, record: Record) -> str:
        self._records[record.id] = record
        self._changed(record.id)
        return record.id

    def _get(self, id: str) -> Record:
        record = self._records.get(id)
        if record is None:
            raise NotFound(f"no such container: {id}")
        return record

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        record = Record(
            id=uuid.uuid4().hex * 2,
            pod=spec.pod,
            name=SANDBOX,
            attempt=spec.attempt,
            state="created",
            created=self._clock.now(),
            grace_period=spec.grace_period,
        )
        if spec.host_network:
            self._host_network.add(record.id)
        return self._put(record)

    async def create_container(self, spec: ContainerSpec) -> str:
        return self._put(
            Record(
                id=uuid.uuid4().hex * 2,
                pod=spec.pod,
                name=spec.name,
                attempt=spec.attempt,
                state="created",
                created=self._clock.now(),
                image=spec.image,
                image_id=spec.image_id,
                image_digest=spec.image_digest,
                spec_hash=spec.spec_hash,
                sandbox_id=spec.sandbox_id,
                backoff=spec.backoff,
                grace_period=spec.grace_period,
                limits=spec.resources.limits,
                memory_request=spec.resources.memory_request,
            )
        )

    async def start(self, id: str) -> None:
        record = self._get(id)
        address = ""
        if record.name == SANDBOX and id not in self._host_network:
            address = self._address()
        second = self._second_address(address) if address else ""
        running = replace(record, state="running", started=self._clock.now())
        self._put(replace(running, address=address, second_address=second))

    def _second_address(self, first: str) -> str:
        """At the same place in the network of the other family."""
        if self._second is None:
            return ""
        place = int(ip_address(first)) - int(ip_network(self._cidr).network_address)
        return str(self._second[place])

    def _address(self) -> str:
        address = next(self._addresses, "") or (self._free.pop(0) if self._free else "")
        if not address:
            raise RuntimeFailure(f"no address is free in {self._cidr or 'the pod network'}")
        return address

    async def stop(self, id: str, grace: float) -> None:
        record = self._get(id)
        if record.state != "running":
            return
        if record.address:
            self._free.append(record.address)
        code = 0 if record.name == SANDBOX else 143
        self._put(
            replace(record, state="exited", finished=self._clock.now(), exit_code=code, address="")
        )

    async def limit(self, id: str, limits: Limits) -> None:
        self._put(replace(self._get(id), limits=limits))

    async def remove(self, id: str) -> None:
        if id in self._records:
            await self.stop(id, 0)
            del self._records[id]
            self._host_network.discard(id)
            self._changed(id)

    async def image(self, reference: str) -> Image | None:
        return Image(f"hollow:{reference}")

    async def pull(self, reference: str, credential: Credential | None = None) -> Image:
        return Image(f"hollow:{reference}")

    async def images(self) -> builtins.list[LocalImage]:
        return []

    async def save_image(self, reference: str) -> AsyncGenerator[bytes, None]:
        raise NotFound(f"a hollow node has no image {reference}")
        yield b""

    async def load_image(self, archive: AsyncIterator[bytes]) -> builtins.list[str]:
        raise ImageArchiveFailure("a hollow node runs no process, so it takes no image")

    async def image_files(self, id: str) -> AsyncGenerator[bytes, None]:
        # The end of an archive without a file in it.
        yield bytes(10240)

    async def remove_image(self, reference: str) -> None:
        """There is none."""

    async def logs(self, id: str, options: LogOptions) -> AsyncIterator[Output]:
        record = self._get(id)
        yield Output(1, f"{record.name} of {record.pod.name}: {NO_PROCESS}\n".encode())

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> Process:
        raise RuntimeFailure(NO_PROCESS)

    async def attach(self, id: str, *, stdin: bool = False) -> Process:
        raise RuntimeFailure(NO_PROCESS)

    async def connect(self, sandbox: Record, port: int) -> StreamPipe:
        raise RuntimeFailure(NO_PROCESS)

    async def disk_use(self, id: str) -> Taken:
        return Taken()

    async def stats(self, id: str) -> Stats | None:
        record = self._get(id)
        if record.state != "running":
            return None
        return Stats(self._clock.now(), 0, 0)
