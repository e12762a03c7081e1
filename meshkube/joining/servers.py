"""The list of the cluster's servers: learnt from the endpoints of default/kubernetes, kept on disk
for the next start, when the one that was joined through may be gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from meshkube import pki
from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informer
from meshkube.client.servers import Servers

log = logging.getLogger(__name__)

FILE = "servers.json"


def known(data_dir: Path, given: Iterable[str]) -> tuple[str, ...]:
    """Where to find the API at a start: what was given, then what was learnt."""
    try:
        kept = orjson.loads((data_dir / FILE).read_bytes())
        learnt = [str(one) for one in kept if str(one).startswith("https://")]
    except (OSError, ValueError, TypeError):
        learnt = []
    return tuple(dict.fromkeys([*given, *learnt]))


def urls(slices: Iterable[Object]) -> list[str]:
    """The servers that EndpointSlices of default/kubernetes name."""
    found = []
    for slice in slices:
        ports = [one["port"] for one in slice.get("ports") or () if one.get("port")]
        for endpoint in slice.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                host = f"[{address}]" if ":" in address else address
                found += [f"https://{host}:{port}" for port in ports]
    return sorted(set(found))


class ServerList:
    """Part `servers`: keeps `servers` and the file as the cluster is. `given` stay in the list:
    from here they may be the only way there is."""

    name = "servers"

    def __init__(
        self, client: Client, servers: Servers, data_dir: Path, given: Iterable[str]
    ) -> None:
        self._client = client
        self._servers = servers
        self._file = data_dir / FILE
        self._given = tuple(given)
        self._written: list[str] = []

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`."""
        changed = asyncio.Event()
        informer = Informer(
            self._client,
            kinds.ENDPOINT_SLICE,
            namespace="default",
            labels="kubernetes.io/service-name=kubernetes",
        )
        informer.subscribe(lambda old, new: changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            # It has what was kept: nobody waits for this.
            ready()
            while True:
                await changed.wait()
                changed.clear()
                self._learn(urls(informer.list()))

    def _learn(self, found: list[str]) -> None:
        if not found or found == self._written:
            return
        self._servers.replace([*found, *self._given])
        pki.write_private(self._file, orjson.dumps(found))
        self._written = found
        log.info("the cluster's servers", extra={"servers": ",".join(found)})
