"""One pod's volumes and files, made and kept current."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node import hosts, image_volumes
from meshkube.node.claims import Backing, backing, claim_name, claim_names, volume_of
from meshkube.node.drivers import Request, driver_for
from meshkube.node.env import ConfigError, Context, SourceKind, expand
from meshkube.node.kit import Kit
from meshkube.node.machine import host_names
from meshkube.node.mounts import PodDirectory, container_mount, give_to_group
from meshkube.node.references import Key
from meshkube.node.registry_auth import Entry
from meshkube.node.runtime import Mount
from meshkube.node.service_tokens import PodTokens
from meshkube.node.volumes import Files, VolumeError, files_of, is_projection, references

FOLLOW_RETRY = timedelta(seconds=10)
TERMINATION_LOG = "/dev/termination-log"


class PodVolumes:
    """The volumes of the pod with `uid`; `changed` is called when an object they show changes."""

    def __init__(self, kit: Kit, uid: str, changed: Callable[[], None]) -> None:
        self._kit = kit
        self._uid = uid
        self._changed = changed
        self._lock = asyncio.Lock()
        self._made = False
        self._paths: dict[str, Path] = {}
        """Where each volume is that has no files of the API in it."""
        self._read_only: set[str] = set()
        self._tokens = PodTokens(kit.client, kit.clock)
        self.directory = PodDirectory(kit.pods_directory, uid)
        # Of an earlier process: its projections have to be followed again.
        self._follow_at = kit.clock.now() if self.directory.path.exists() else None

    def context(self, pod: Object, address: str) -> Context:
        """What references in the pod's spec mean now."""
        namespace = meta.namespace(pod)

        def lookup(kind: SourceKind, name: str) -> Object | None:
            return self._kit.references.get(kind, namespace, name)

        return Context(
            pod=pod,
            pod_ip=address,
            node_name=self._kit.node_name,
            host_ip=self._kit.node_ip,
            second_ips=self._kit.second_ips,
            lookup=lookup,
            allocatable=self._kit.allocatable,
            tokens=self._tokens.texts(),
        )

    def refresh_at(self) -> datetime | None:
        """When the projections are to be written again although nothing changed: tokens end."""
        if self._made:
            return self._tokens.renew_at()
        return self._follow_at

    async def hold(self, pod: Object) -> None:
        """Looks up every object that the pod names, and keeps looking."""
        namespace = meta.namespace(pod)
        keys: list[Key] = [(kind, namespace, name) for kind, name in references(pod)]
        claims = set(claim_names(pod))
        keys += [("PersistentVolumeClaim", namespace, name) for name in claims]
        if keys:
            await self._kit.references.hold(self._uid, keys, self._changed)
        bound = {volume_of(self._claim(namespace, name)) for name in claims} - {""}
        if bound:
            held: list[Key] = [("PersistentVolume", "", name) for name in bound]
            await self._kit.references.hold(self._uid, held, self._changed)
        try:
            await self._tokens.refresh(pod)
        except VolumeError as error:
            raise _named(_token_volume(pod), error) from error

    async def handler(self, pod: Object) -> str:
        """The handler of the pod's RuntimeClass; empty without one. Raises `ConfigError`."""
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        await self._kit.references.hold(self._uid, [("RuntimeClass", "", name)], self._changed)
        found = self._kit.references.get("RuntimeClass", "", name)
        if found is None:
            raise ConfigError(f'RuntimeClass "{name}" not found')
        return str(found.get("handler") or "")

    async def ensure(self, pod: Object, *, again: bool = False) -> None:
        """Makes what is missing; with `again`, writes projections anew where they differ.
        Raises `VolumeError` with the volume's name in its message."""
        async with self._lock:
            if self._made and not again:
                return
            if self._follow_at is not None:
                self._follow_at = self._kit.clock.now() + FOLLOW_RETRY
            await self.hold(pod)
            context = self.context(pod, "")
            projections = _projections(pod, context)
            await self._unpack_images(pod)
            await asyncio.to_thread(self._make, pod, projections)
            self._made = True

    async def _unpack_images(self, pod: Object) -> None:
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            if "image" not in volume or name in self._paths:
                continue
            path = self.directory.volume_path(name)
            try:
                await image_volumes.set_up(
                    volume["image"],
                    path,
                    self._kit.images,
                    self._kit.runtime,
                    lambda: self._credentials(pod),
                )
            except VolumeError as error:
                raise _named(name, error) from error
            self._paths[name] = path
            self._read_only.add(name)

    async def _credentials(self, pod: Object) -> Sequence[Entry]:
        return (await self._kit.pull_secrets.of(pod, self._changed)).entries

    def _claim(self, namespace: str, name: str) -> Object | None:
        return self._kit.references.get("PersistentVolumeClaim", namespace, name)

    def _backing(self, pod: Object, volume: Object) -> Backing:
        return backing(
            pod,
            volume,
            self._kit.node_name,
            lambda name: self._claim(meta.namespace(pod), name),
            lambda name: self._kit.references.get("PersistentVolume", "", name),
        )

    def _make(self, pod: Object, projections: dict[str, Files]) -> None:
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        for volume in pod["spec"].get("volumes") or ():
            name = volume["name"]
            try:
                self._make_one(pod, volume, projections.get(name), group)
            except VolumeError as error:
                raise _named(name, error) from error
            except OSError as error:
                raise _named(name, VolumeError(str(error))) from error

    def _make_one(
        self, pod: Object, volume: Object, files: Files | None, group: int | None
    ) -> None:
        name = volume["name"]
        if files is not None:
            self.directory.write_projection(name, files, group)
        elif "emptyDir" in volume:
            self.directory.empty_dir(name, volume["emptyDir"] or {}, group)
        elif name not in self._paths:
            self._set_up(pod, volume, group)

    def _set_up(self, pod: Object, volume: Object, group: int | None) -> None:
        name, found = volume["name"], self._backing(pod, volume)
        request = Request(
            target=self.directory.volume_path(name),
            read_only=found.read_only,
            mount_options=found.mount_options,
            name=found.name,
            made_here=found.made_here,
        )
        path = driver_for(found.kind, found.source).set_up(found.source, request)
        if found.read_only:
            self._read_only.add(name)
        elif group is not None and found.kind != "hostPath":
            outer = pod["spec"].get("securityContext") or {}
            give_to_group(path, group, outer.get("fsGroupChangePolicy") or "Always")
        self._paths[name] = path

    def places(self, pod: Object) -> Iterator[tuple[str, str, str]]:
        """Name, claim and directory of each volume that the pod fills itself."""
        for volume in pod["spec"].get("volumes") or ():
            name, claim = volume["name"], claim_name(pod, volume)
            path = self._paths.get(name) if claim else self.directory.volume_path(name)
            if path is not None and (claim or "emptyDir" in volume) and path.exists():
                yield name, claim, str(path)

    async def mounts(
        self, pod: Object, container: Object, attempt: int, address: str, env: dict[str, str]
    ) -> tuple[Mount, ...]:
        """Everything mounted in one container. Raises `VolumeError`, `ConfigError`."""
        return await asyncio.to_thread(self._mounts, pod, container, attempt, address, env)

    def _mounts(
        self, pod: Object, container: Object, attempt: int, address: str, env: dict[str, str]
    ) -> tuple[Mount, ...]:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        found = []
        for mount in container.get("volumeMounts") or ():
            volume = volumes.get(mount["name"])
            if volume is None:
                raise ConfigError(f'volumeMount "{mount["name"]}" names no volume of the pod')
            found.append(self._mount(volume, mount, env))
        found += self._etc(pod, {mount.target for mount in found}, address)
        log = container.get("terminationMessagePath") or TERMINATION_LOG
        path = self.directory.termination_log(container["name"], attempt)
        found.append(Mount(str(path), log))
        return tuple(found)

    def _mount(self, volume: Object, mount: Object, env: dict[str, str]) -> Mount:
        name = volume["name"]
        path = self._paths.get(name) or self.directory.volume_path(name)
        subpath = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
        if subpath and (subpath.startswith("/") or ".." in posixpath.normpath(subpath).split("/")):
            raise ConfigError(f"subPath {subpath!r} is not inside the volume")
        read_only = is_projection(volume) or name in self._read_only
        return container_mount(path, mount, read_only, subpath)

    def _etc(self, pod: Object, taken: set[str], address: str) -> list[Mount]:
        kit = self._kit
        resolver = hosts.resolver(pod, kit.host_resolver(), kit.cluster_dns, kit.cluster_domain)
        if pod["spec"].get("hostNetwork"):
            names = hosts.host_network_file(pod, host_names())
        else:
            names = hosts.hosts_file(pod, address, kit.node_name, kit.cluster_domain)
        contents = {"resolv.conf": str(resolver), "hosts": names}
        return [
            Mount(str(self.directory.write_etc(name, content)), f"/etc/{name}")
            for name, content in contents.items()
            if f"/etc/{name}" not in taken
        ]

    async def erase_empty_dirs(self, pod: Object) -> None:
        """Gives back what the emptyDirs of a pod that is over take. Raises `OSError`."""
        for volume in pod["spec"].get("volumes") or ():
            if "emptyDir" in volume:
                await asyncio.to_thread(self.directory.erase_empty_dir, volume["name"])

    async def remove(self) -> None:
        """Lets go of everything."""
        self._kit.references.release(self._uid)
        await asyncio.to_thread(self.directory.remove)


def _projections(pod: Object, context: Context) -> dict[str, Files]:
    found: dict[str, Files] = {}
    for volume in pod["spec"].get("volumes") or ():
        if is_projection(volume):
            try:
                found[volume["name"]] = files_of(volume, context)
            except VolumeError as error:
                raise _named(volume["name"], error) from error
    return found


def _token_volume(pod: Object) -> str:
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                return str(volume["name"])
    return ""


def _named(name: str, error: Any) -> VolumeError:
    return VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}')
