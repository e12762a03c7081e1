"""The Runtime on Docker Engine, 20.10 to current, through aiodocker."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import json
import logging
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiodocker
import aiohttp

from meshkube.node import docker_convert as convert
from meshkube.node import docker_disk, docker_images, image_names, pause, pod_network
from meshkube.node.disk_usage import Taken
from meshkube.node.docker_exec import DockerAttached, DockerExec
from meshkube.node.docker_logs import read_logs
from meshkube.node.docker_stats import stats_of
from meshkube.node.docker_stream import hijack
from meshkube.node.image_names import ImageName
from meshkube.node.registry_auth import Credential
from meshkube.node.resources import CPU_PERIOD
from meshkube.node.runtime import (
    ContainerSpec,
    Image,
    ImagePullFailure,
    Limits,
    LocalImage,
    LogOptions,
    NotFound,
    Output,
    Process,
    Record,
    RegistryUnavailable,
    RuntimeFailure,
    RuntimeInfo,
    RuntimeUnavailable,
    SandboxSpec,
    Stats,
)
from meshkube.tunnel.pipe import StreamPipe

log = logging.getLogger(__name__)

# How far before now events are asked for, so that none falls between the question and the list.
EVENTS_OVERLAP = 2.0
# What happens to a container that can change its record.
ACTIONS = ("create", "start", "die", "oom", "destroy", "pause", "unpause")
ANSWER_TIMEOUT = 120.0
INSPECTED_AT_ONCE = 16


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turns every error of the client into a `RuntimeFailure`."""
    try:
        yield
    except aiodocker.DockerError as error:
        # aiodocker says 900 where nothing listens.
        kinds = {404: NotFound, 900: RuntimeUnavailable}
        raise kinds.get(error.status, RuntimeFailure)(error.message) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RuntimeUnavailable(str(error) or type(error).__name__) from error


class DockerRuntime:
    """Pods on the Docker Engine at `url` (`unix:///var/run/docker.sock`, `tcp://host:port`)."""

    scheme = "docker"
    answers = True

    def __init__(
        self,
        url: str,
        pod_mtu: Callable[[], Awaitable[int]] | None = None,
        masquerade: bool = False,
        services: str = "",
    ) -> None:
        """`pod_mtu` says how large the packets of pods may be; without it, or at 0, Docker does.
        `masquerade`: Docker hides pods' addresses from the world, because nobody else does.
        `services`: a network whose addresses are on the same link, as a gateway answers for them.
        """
        self._masquerade = masquerade
        self._services = services
        self._url = url
        self._pod_mtu = pod_mtu
        self._client: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None
        self._api = (1, 41)
        self._machine = ""
        self._records: dict[str, Record] = {}
        self._lowest_oom_score = lowest_oom_score()
        self._unpacking = asyncio.Lock()
        self._sandbox_image = asyncio.Lock()
        self._sandbox_image_present = False

    @property
    def _docker(self) -> aiodocker.Docker:
        if self._client is None:
            parts = urlsplit(self._url)
            # No limit: every followed log and every wait holds a connection.
            self._connector = (
                aiohttp.UnixConnector(parts.path, limit=0)
                if parts.scheme == "unix"
                else aiohttp.TCPConnector(limit=0)
            )
            url = "unix://localhost" if parts.scheme == "unix" else self._url
            timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)
            self._client = aiodocker.Docker(url, connector=self._connector, timeout=timeout)
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def info(self) -> RuntimeInfo:
        with _failures():
            version = await self._docker.version()
        major, _, minor = str(version.get("ApiVersion", "1.41")).partition(".")
        self._api = (int(major), int(minor))
        self._machine = str(version.get("Arch") or os.uname().machine)
        return RuntimeInfo(
            "docker", str(version.get("Version", "unknown")), await self._directory()
        )

    async def _directory(self) -> str:
        if urlsplit(self._url).scheme != "unix":
            return ""
        with _failures():
            return str((await self._docker.system.info()).get("DockerRootDir") or "")

    async def ensure_network(self, cidrs: Sequence[str]) -> None:
        """Raises `RuntimeFailure` where a network of that name has another subnet."""
        mtu = await self._pod_mtu() if self._pod_mtu is not None else 0
        wanted = convert.network_body(
            cidrs, self._api, mtu, masquerade=self._masquerade, services=self._services
        )
        subnets = convert.subnets(wanted)
        with _failures():
            found = await self._docker.networks.list(filters={"name": [convert.NETWORK]})
            for network in found:
                if network["Name"] != convert.NETWORK:
                    continue
                same = convert.subnets(network) == subnets
                if same and mtu in (0, convert.network_mtu(network)):
                    return
                if network.get("Containers"):
                    raise RuntimeFailure(
                        f"the Docker network {convert.NETWORK} has subnet"
                        f" {', '.join(convert.subnets(network))}, not {', '.join(subnets)}"
                    )
                old = await self._docker.networks.get(network["Id"])
                try:
                    await old.delete()
                except aiodocker.DockerError:
                    if not same:
                        raise
                    # Pods use it. Their larger packets are answered with the size that fits.
                    return
            await self._docker.networks.create(wanted)

    async def watch(self) -> AsyncGenerator[str, None]:
        closed = False
        self._sandbox_image_present = False
        await self.info()
        filters = json.dumps(
            {"type": ["container"], "event": list(ACTIONS), "label": [convert.POD_UID]}
        )
        since = f"{time.time() - EVENTS_OVERLAP:.3f}"
        async with asyncio.TaskGroup() as group:
            subscriber = self._docker.events.subscribe(create_task=False)  # type: ignore[no-untyped-call]
            task = group.create_task(self._receive_events(filters=filters, since=since))
            try:
                yield ""
                while True:
                    event = await subscriber.get()
                    if event is None:
                        break
                    id = str((event.get("Actor") or {}).get("ID") or "")
                    if id:
                        self._records.pop(id, None)
                        yield id
            except GeneratorExit:
                # Raised on, it would come out of the group as an error.
                closed = True
            finally:
                task.cancel()
        if not closed:
            raise RuntimeUnavailable("Docker Engine ended its stream of events")

    async def _receive_events(self, **params: str) -> None:
        try:
            await self._docker.events.run(timeout=None, **params)
        except (aiodocker.DockerError, aiohttp.ClientError, OSError) as error:
            # The subscriber has been told that the stream ended.
            log.debug("events ended", extra={"error": str(error)})

    async def list(self) -> list[Record]:
        filters = json.dumps({"label": [convert.POD_UID]})
        with _failures():
            found = await self._docker.containers.list(all=1, filters=filters)
        states = {item.id: item["State"] for item in found}
        for id in self._records.keys() - states.keys():
            del self._records[id]
        changed = [id for id, state in states.items() if self._is_news(id, state)]
        places = asyncio.Semaphore(INSPECTED_AT_ONCE)

        async def look(id: str) -> None:
            async with places:
                await self.inspect(id)

        await asyncio.gather(*(look(id) for id in changed))
        return [self._records[id] for id in states if id in self._records]

    def _is_news(self, id: str, state: str) -> bool:
        """Whether a list's word on a container differs from what is known of it."""
        known = self._records.get(id)
        if known is None:
            return True
        if state == "created" and known.error:
            return False
        return convert.state_of(state) != known.state

    async def inspect(self, id: str) -> Record | None:
        try:
            found = await self._inspected(id)
        except NotFound:
            self._records.pop(id, None)
            return None
        record = convert.record(found)
        if record is not None:
            self._records[id] = record
        return record

    async def _inspected(self, id: str) -> Mapping[str, Any]:
        with _failures():
            return await self._docker.containers.container(id).show()

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        await self._ensure_sandbox_image()
        name = convert.container_name(spec.pod, "POD", spec.attempt)
        return await self._create(
            convert.sandbox_body(spec, pause.IMAGE, self._lowest_oom_score), name
        )

    async def create_container(self, spec: ContainerSpec) -> str:
        name = convert.container_name(spec.pod, spec.name, spec.attempt)
        return await self._create(convert.container_body(spec, self._lowest_oom_score), name)

    async def _create(self, body: Mapping[str, Any], name: str) -> str:
        try:
            with _failures():
                made = await self._docker.containers.create(dict(body), name=name)
        except NotFound:
            # An image that vanished between the look and now.
            self._sandbox_image_present = False
            raise
        except RuntimeFailure as failure:
            if "is already in use by container" not in str(failure):
                raise
            # Left over from an agent that ended half-way: nothing runs in it that we know of.
            await self.remove(name)
            with _failures():
                made = await self._docker.containers.create(dict(body), name=name)
        return made.id

    async def start(self, id: str) -> None:
        with _failures():
            await self._docker.containers.container(id).start()

    async def stop(self, id: str, grace: float) -> None:
        with contextlib.suppress(NotFound), _failures():
            await self._docker.containers.container(id).stop(t=max(0, round(grace)))

    async def limit(self, id: str, limits: Limits) -> None:
        body = convert.limits_body(limits, CPU_PERIOD)
        with _failures():
            await self._docker._query_json(f"containers/{id}/update", "POST", data=body)

    async def remove(self, id: str) -> None:
        try:
            with _failures():
                await self._docker.containers.container(id).delete(force=True, v=True)
        except NotFound:
            pass
        except RuntimeFailure as failure:
            if "is already in progress" not in str(failure):
                raise
        self._records.pop(id, None)

    async def _ensure_sandbox_image(self) -> None:
        async with self._sandbox_image:
            if self._sandbox_image_present:
                return
            if await self.image(pause.IMAGE) is None:
                if not self._machine:
                    await self.info()
                content = pause.root_filesystem(self._machine)
                with _failures():
                    await docker_images.imported(self._docker, pause.IMAGE, "/pause", content)
            self._sandbox_image_present = True

    async def image(self, reference: str) -> Image | None:
        try:
            with _failures():
                found = await self._docker.images.inspect(convert.normalized(reference))
        except NotFound:
            return None
        digests: Sequence[str] = found.get("RepoDigests") or ()
        user = str((found.get("Config") or {}).get("User") or "")
        return Image(
            str(found["Id"]),
            convert.digest_of(_named(reference), digests),
            int(found.get("Size") or 0),
            user,
        )

    async def pull(self, reference: str, credential: Credential | None = None) -> Image:
        try:
            name = image_names.parse(reference)
        except ValueError as error:
            raise ImagePullFailure(f"{reference}: {error}") from error
        auth = convert.auth(name, credential) if credential is not None else None
        try:
            with _failures():
                await self._docker.images.pull(name.full, auth=auth)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as failure:
            kind = RegistryUnavailable if convert.is_down(str(failure)) else ImagePullFailure
            raise kind(str(failure)) from failure
        found = await self.image(reference)
        if found is None:
            raise ImagePullFailure(f"{reference} is not there after it was pulled")
        return found

    async def images(self) -> builtins.list[LocalImage]:
        with _failures():
            return await docker_images.listed(self._docker)

    async def save_image(self, reference: str) -> AsyncGenerator[bytes, None]:
        with _failures():
            saved = docker_images.saved(self._docker, reference)
            async with contextlib.aclosing(saved) as pieces:
                async for piece in pieces:
                    yield piece

    async def load_image(self, archive: AsyncIterator[bytes]) -> builtins.list[str]:
        with _failures():
            return await docker_images.loaded(self._docker, archive)

    async def image_files(self, id: str) -> AsyncGenerator[bytes, None]:
        async with self._unpacking:
            with _failures():
                async with contextlib.aclosing(docker_images.files(self._docker, id)) as pieces:
                    async for piece in pieces:
                        yield piece

    async def remove_image(self, reference: str) -> None:
        with contextlib.suppress(NotFound), _failures():
            await docker_images.removed(self._docker, reference)

    async def logs(self, id: str, options: LogOptions) -> AsyncIterator[Output]:
        tty = bool((await self._inspected(id))["Config"].get("Tty"))
        # Who stops in the middle lets go of the engine's answer now, not when it is collected.
        async with contextlib.aclosing(read_logs(self._docker, id, options, tty)) as outputs:
            async for output in outputs:
                yield output

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> Process:
        with _failures():
            made = await self._docker.containers.container(id).exec(
                cmd=list(command), stdin=stdin, stdout=True, stderr=not tty, tty=tty
            )
        path = f"{self._prefix()}/exec/{made.id}/start"
        body = {"Detach": False, "Tty": tty}
        stream = await hijack(self._url, path, body, multiplexed=not tty)
        return DockerExec(stream, made, id)

    async def attach(self, id: str, *, stdin: bool = False) -> Process:
        config = (await self._inspected(id))["Config"]
        tty = bool(config.get("Tty"))
        # Whom `kubectl run -i` starts it for wants what it said before they were connected, too.
        said = int(stdin and bool(config.get("StdinOnce")))
        query = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}&logs={said}"
        path = f"{self._prefix()}/containers/{id}/attach?{query}"
        stream = await hijack(self._url, path, multiplexed=not tty)
        try:
            # To one that has ended Docker stays attached, until it would be started again.
            if not (await self._inspected(id))["State"].get("Running"):
                raise RuntimeFailure(f"container {id} does not run")
        except BaseException:
            await stream.close()
            raise
        return DockerAttached(stream, self._docker.containers.container(id))

    async def connect(self, sandbox: Record, port: int) -> StreamPipe:
        process = int((await self._inspected(sandbox.id))["State"].get("Pid") or 0)
        if not process:
            raise RuntimeFailure(f"the sandbox of pod {sandbox.pod.name} does not run")
        return await pod_network.connect(process, port, sandbox.address)

    def _prefix(self) -> str:
        return f"/v{self._api[0]}.{self._api[1]}"

    async def disk_use(self, id: str) -> Taken:
        inspected = await self._inspected(id)
        with _failures():
            return await docker_disk.use(self._docker, inspected)

    async def stats(self, id: str) -> Stats | None:
        # One sample: for a second one, to compare with, Docker would wait a second or two.
        params = {"stream": "0", "one-shot": "1"}
        with _failures():
            found = await self._docker._query_json(f"containers/{id}/stats", params=params)
        return stats_of(found) if found else None


def _named(reference: str) -> ImageName | None:
    try:
        return image_names.parse(reference)
    except ValueError:
        # An id.
        return None


def lowest_oom_score() -> int:
    """The lowest score this host lets a process have: without CAP_SYS_RESOURCE (inside some
    virtual machines and containers), none below its own; Docker refuses to start such a one."""
    capability = 1 << 24
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) & capability:
            return -1000
    return int(Path("/proc/self/oom_score_adj").read_text())
