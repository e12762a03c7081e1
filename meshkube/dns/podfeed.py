"""The addresses of pods, followed only while names of pods are to be verified."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from meshkube.api import meta
from meshkube.api.kinds import POD
from meshkube.api.types import Object
from meshkube.client import Client
from meshkube.client.informer import Informer
from meshkube.dns import names
from meshkube.dns.podnames import PodNames

_IDENTITY = ("name", "namespace", "uid", "resourceVersion")


class PodFeed:
    """Keeps `PodNames.addresses` as the API says."""

    def __init__(
        self,
        client: Client,
        pods: PodNames,
        forget: Callable[[Iterable[bytes]], None],
        domain: str,
    ) -> None:
        self._client = client
        self._pods = pods
        self._forget = forget
        self._domain = domain
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._addresses: Counter[tuple[str, str]] = Counter()

    def wanted(self, wanted: bool) -> None:
        """Whether pods are to be followed."""
        (self._wanted if wanted else self._unwanted).set()
        (self._unwanted if wanted else self._wanted).clear()

    async def run(self) -> None:
        """Follows pods for as long as they are wanted, each time anew."""
        while True:
            await self._wanted.wait()
            self._addresses = Counter()
            self._pods.addresses = self._addresses
            informer = Informer(self._client, POD, project=_addresses_only)
            informer.subscribe(self._changed)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(informer.run(), name="dns-pods-informer")
                await self._unwanted.wait()
                task.cancel()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        before, after = _keys(old), _keys(new)
        if before == after:
            return
        self._addresses.subtract(before)
        self._addresses.update(after)
        for key in before | after:
            if self._addresses[key] <= 0:
                del self._addresses[key]
        self._forget(self._name(*key) for key in before ^ after)

    def _name(self, namespace: str, address: str) -> bytes:
        label = address.replace(".", "-").replace(":", "-")
        return names.encode(f"{label}.{namespace}.pod.{self._domain}")


def _keys(pod: Object | None) -> set[tuple[str, str]]:
    if pod is None:
        return set()
    listed = (pod.get("status") or {}).get("podIPs") or ()
    return {(meta.namespace(pod), entry["ip"]) for entry in listed if entry.get("ip")}


def _addresses_only(pod: Object) -> Object:
    """What is kept of a pod."""
    status = pod.get("status") or {}
    named = {key: pod["metadata"].get(key) for key in _IDENTITY}
    gone = status.get("phase") in ("Succeeded", "Failed")
    return {"metadata": named, "status": {} if gone else {"podIPs": status.get("podIPs") or []}}
