"""What the node and its pods use at one moment, as plain data. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meshkube.node.disk_usage import Taken
from meshkube.node.network_counters import Interface
from meshkube.node.runtime import PodRef, Record, Stats


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Bytes and file nodes, in all and free for us."""

    capacity: int = 0
    available: int = 0
    inodes: int = 0
    inodes_free: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """What the whole host uses now."""

    cpu_nanoseconds: int
    """CPU time since it was booted."""
    memory: int
    """Bytes that could not be had for something else at once."""
    booted: datetime
    memory_usage: int = 0
    """Bytes with everything that is cached."""
    rss: int = 0
    """Bytes of processes that belong to no file."""
    swap: int = 0
    swap_free: int = 0
    faults: int = 0
    major_faults: int = 0


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """A pod's volume with files of its own. `claim` is empty where there is none."""

    pod: PodRef
    name: str
    claim: str
    path: str


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A container that runs. Sizes are None where they were not asked for, or are not known."""

    record: Record
    stats: Stats
    nanocores: int | None
    layer: Taken | None = None
    logs: Taken | None = None


@dataclass(frozen=True, slots=True)
class PodUse:
    """A pod that runs."""

    ref: PodRef
    started: datetime
    containers: tuple[ContainerUse, ...]
    interfaces: tuple[Interface, ...] = ()
    volumes: tuple[tuple[VolumeUse, Taken, FileSystem], ...] = ()
    sandbox: Record | None = None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """The host."""

    name: str
    time: str
    used: Used
    nanocores: int | None
    memory: int
    """Bytes that it has."""
    cpus: int
    interfaces: tuple[Interface, ...] = ()
    uplink: str = ""
    files: FileSystem = FileSystem()
    image_files: FileSystem = FileSystem()
    processes: int = 0
    most_processes: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at everything."""

    node: NodeUse
    pods: tuple[PodUse, ...]

    @property
    def containers(self) -> list[ContainerUse]:
        return [one for pod in self.pods for one in pod.containers]
