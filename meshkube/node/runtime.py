"""The Runtime Protocol: what the node agent needs from whatever runs containers.

A pod is a sandbox (it holds the network) and containers that join it. A runtime keeps, with each
container, the facts of its spec (`pod`, `name`, `attempt` ...) so that a new agent finds every
running pod again from the runtime alone. Modelled on the Container Runtime Interface of Kubernetes.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from meshkube.node.disk_usage import Taken
from meshkube.node.registry_auth import Credential
from meshkube.tunnel.pipe import StreamPipe

SANDBOX = "POD"
"""The container name of a sandbox: no container of a pod can be called so."""


class RuntimeFailure(Exception):
    """The runtime refused or failed; the message is its own."""


class RuntimeUnavailable(RuntimeFailure):
    """The runtime does not answer at all."""


class NotFound(RuntimeFailure):
    """No such container or image."""


class ImagePullFailure(RuntimeFailure):
    """An image could not be fetched."""


class RegistryUnavailable(ImagePullFailure):
    """The registry answers that it cannot serve now."""


class ImageArchiveFailure(RuntimeFailure):
    """An archive holds no image that could be loaded."""


class PodRef(NamedTuple):
    namespace: str
    name: str
    uid: str


class Limits(NamedTuple):
    """What can be changed while a container runs; 0 means none."""

    cpu_shares: int
    cpu_quota: int
    """Microseconds of CPU in each period."""
    memory: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One container (or sandbox) as the runtime has it now."""

    id: str
    pod: PodRef
    name: str
    """The container's name in its pod, or `SANDBOX`."""
    attempt: int
    """How many of the same name came before: 0 for the first."""
    state: Literal["created", "running", "exited"]
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    """Why it could not be started; empty where it could."""
    image: str = ""
    """As the pod's spec names it."""
    image_id: str = ""
    image_digest: str = ""
    """`name@sha256:...` where the image came from a registry; else empty."""
    spec_hash: str = ""
    sandbox_id: str = ""
    backoff: float = 0.0
    """Seconds to wait before the next attempt, should this one end soon."""
    grace_period: int = 30
    """Seconds between the signal to end and the kill."""
    address: str = ""
    """The pod's address: of a running sandbox with a network of its own."""
    second_address: str = ""
    """Its address of the other family, where the cluster has two."""
    limits: Limits | None = None
    """What it may use now; None where the runtime cannot tell."""
    memory_request: int | None = None
    """Bytes that it asked for when it was made; None: not known."""
    pid: int = 0
    """Its first process, while it runs on this host; 0: not known."""
    layer: str = ""
    """The directory of the files that it changed, on this host; empty: not known."""
    log_file: str = ""
    """Where its output goes, on this host; empty: not known."""


class HostPort(NamedTuple):
    """A port of the host that leads to one of the pod. `address` is empty for all of the host's."""

    address: str
    port: int
    pod_port: int
    protocol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a sandbox is made from."""

    pod: PodRef
    attempt: int
    hostname: str
    grace_period: int
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[HostPort, ...] = ()
    handler: str = ""
    """Of the pod's RuntimeClass; empty: the runtime's default."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the host, in the container."""

    source: str
    target: str
    read_only: bool = False
    propagation: Literal["rprivate", "rslave", "rshared"] = "rprivate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a container may use, in the kernel's terms."""

    limits: Limits = Limits(0, 0, 0)
    memory_request: int = 0
    """Bytes; the kernel is not told."""
    cpu_period: int = 100_000
    oom_score_adj: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who the process is and what it may do."""

    user: str = ""
    """`uid`, `uid:gid`, or empty for the image's own."""
    groups: tuple[str, ...] = ()
    privileged: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    read_only_root: bool = False
    no_new_privileges: bool = False
    options: tuple[str, ...] = ()
    """Further security options in Docker's words, such as `seccomp=unconfined`."""
    seccomp_file: str = ""
    """A profile in the node's own directory of profiles; its text goes into `options`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What a container is made from; every reference in it is resolved."""

    pod: PodRef
    name: str
    attempt: int
    sandbox_id: str
    image: str
    """As the pod's spec names it."""
    image_id: str = ""
    """What to run; `image` where empty."""
    image_digest: str = ""
    command: tuple[str, ...] | None = None
    """Replaces the image's entry point."""
    args: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    resources: Resources = Resources()
    security: Security = Security()
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    pid_of: str = ""
    """The id of a container whose processes it sees and may trace; empty: its own."""
    stop_signal: str = ""
    spec_hash: str = ""
    backoff: float = 0.0
    grace_period: int = 30
    handler: str = ""
    """Of the pod's RuntimeClass; empty: the runtime's default."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is present."""

    id: str
    digest: str = ""
    """`name@sha256:...` where it came from a registry; else empty."""
    size: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """One of all images that are present."""

    id: str
    names: tuple[str, ...]
    """`repository@digest` first, then `repository:tag`."""
    size: int
    pinned: bool = False
    """A label of it says that it stays, whatever the disk."""


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """`docker`, `20.10.24`."""

    name: str
    version: str
    directory: str = ""
    """Where it keeps images and containers; empty where that is not on this host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which lines, as `PodLogOptions` says it."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None


class Output(NamedTuple):
    """A piece of what a process wrote: stream 1 is standard output, 2 standard error."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Throttled:
    """How a CPU limit was felt: periods with work, those of them that hit it, nanoseconds lost."""

    periods: int = 0
    hit: int = 0
    nanoseconds: int = 0


@dataclass(frozen=True, slots=True)
class Transfers:
    """Requests to disks, and their bytes."""

    reads: int = 0
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a container uses now. Counts are since its start; what is not known is 0."""

    time: datetime
    cpu_nanoseconds: int
    memory: int
    """Bytes of the working set."""
    memory_usage: int = 0
    """Bytes with everything that is cached."""
    rss: int = 0
    """Bytes that belong to no file."""
    faults: int = 0
    major_faults: int = 0
    cpu_user: int = 0
    """Nanoseconds, as `cpu_system`."""
    cpu_system: int = 0
    throttled: Throttled = Throttled()
    memory_limit: int = 0
    """Bytes; 0: none."""
    cache: int = 0
    mapped: int = 0
    swap: int = 0
    processes: int = 0
    """Threads included."""
    disk: Transfers = Transfers()


class Process(Protocol):
    """A process whose streams are connected: of `exec` or `attach`."""

    async def read(self) -> Output | None:
        """The next piece; None once all is read."""
        ...

    async def write(self, data: bytes) -> None:
        """To its standard input; returns once there is room for more."""
        ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def exit_code(self) -> int:
        """Once `read` has returned None."""
        ...

    async def close(self) -> None:
        """Lets go of the streams. What `exec` started is not ended by that."""
        ...

    async def kill(self) -> None:
        """Ends what `exec` started, where it still runs."""
        ...


class Runtime(Protocol):
    """Runs containers. Every method raises `RuntimeFailure`, or its kinds, and nothing else."""

    @property
    def scheme(self) -> str:
        """The prefix of container ids in the API: `docker` in `docker://...`."""
        ...

    @property
    def answers(self) -> bool:
        """False where nobody answers at a pod's address, so network probes have no meaning."""
        ...

    async def info(self) -> RuntimeInfo: ...

    async def close(self) -> None:
        """Lets go of connections; containers run on. Used again, it connects again."""
        ...

    async def ensure_network(self, cidrs: Sequence[str]) -> None:
        """Makes the network of pods, with addresses out of `cidrs` (one of each family), unless it
        is there."""
        ...

    def watch(self) -> AsyncGenerator[str, None]:
        """Ids of containers that changed. The first item is empty: from then on no change is
        missed, so list everything. Ends with `RuntimeUnavailable`."""
        ...

    async def list(self) -> list[Record]:
        """Every container and sandbox that an agent made."""
        ...

    async def inspect(self, id: str) -> Record | None: ...

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        """The new sandbox's id; `start` it next."""
        ...

    async def create_container(self, spec: ContainerSpec) -> str:
        """The new container's id; its sandbox must have been created, not yet started."""
        ...

    async def start(self, id: str) -> None: ...

    async def stop(self, id: str, grace: float) -> None:
        """Asks it to end, kills it after `grace` seconds; returns once it has ended."""
        ...

    async def limit(self, id: str, limits: Limits) -> None:
        """Changes what a running container may use."""
        ...

    async def remove(self, id: str) -> None:
        """Kills where needed. No error where it does not exist."""
        ...

    async def image(self, reference: str) -> Image | None: ...

    async def pull(self, reference: str, credential: Credential | None = None) -> Image:
        """From its registry. Raises `ImagePullFailure`."""
        ...

    async def images(self) -> builtins.list[LocalImage]:
        """Every image that has a name."""
        ...

    def save_image(self, reference: str) -> AsyncGenerator[bytes, None]:
        """The image as an archive, in the form of `docker save`."""
        ...

    async def load_image(self, archive: AsyncIterator[bytes]) -> builtins.list[str]:
        """The names of what such an archive held. Raises `ImageArchiveFailure`."""
        ...

    def image_files(self, id: str) -> AsyncGenerator[bytes, None]:
        """The files of an image, as a tar of its root."""
        ...

    async def remove_image(self, reference: str) -> None:
        """Takes that name from an image, which goes with its last one."""
        ...

    def logs(self, id: str, options: LogOptions) -> AsyncIterator[Output]: ...

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> Process: ...

    async def attach(self, id: str, *, stdin: bool = False) -> Process:
        """Only what is written from now on."""
        ...

    async def connect(self, sandbox: Record, port: int) -> StreamPipe:
        """A TCP connection to a port of localhost as the pod sees it. Raises `OSError` too."""
        ...

    async def disk_use(self, id: str) -> Taken:
        """The files that a container wrote, and its logs. Not cheap."""
        ...

    async def stats(self, id: str) -> Stats | None:
        """None where it does not run."""
        ...
