"""The containers that requests to the node's server name."""

from __future__ import annotations

from aiohttp import web

from meshkube.node.records import Records
from meshkube.node.runtime import SANDBOX, Record


class Finder:
    """Finds by the path's `namespace`, `pod` and `container`."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def container(self, request: web.Request, *, previous: bool = False) -> Record:
        """The newest attempt, or the one before. Raises `HTTPBadRequest`."""
        pod, name = request.match_info["pod"], request.match_info["container"]
        found = [record for record in self._of_pod(request) if record.name == name != SANDBOX]
        found.sort(key=lambda record: record.created)
        if not found:
            raise web.HTTPBadRequest(
                text=f'container "{name}" in pod "{pod}" is waiting to start: ContainerCreating'
            )
        if not previous:
            return found[-1]
        same_pod = [record for record in found if record.pod.uid == found[-1].pod.uid]
        if len(same_pod) < 2:
            raise web.HTTPBadRequest(
                text=f'previous terminated container "{name}" in pod "{pod}" not found'
            )
        return same_pod[-2]

    def running(self, request: web.Request) -> Record:
        """The container, which must run. Raises `HTTPBadRequest`."""
        record = self.container(request)
        if record.state != "running":
            raise web.HTTPBadRequest(
                text=f"container {record.name} is not running in pod {record.pod.name}"
            )
        return record

    def sandbox(self, request: web.Request) -> Record:
        """The running sandbox of the pod. Raises `HTTPNotFound`."""
        for record in self._of_pod(request):
            if record.name == SANDBOX and record.state == "running":
                return record
        pod = request.match_info["pod"]
        raise web.HTTPNotFound(text=f'pod "{pod}" does not run on this node')

    def _of_pod(self, request: web.Request) -> list[Record]:
        wanted = (request.match_info["namespace"], request.match_info["pod"])
        return [
            record
            for uid in self._records.uids()
            for record in self._records.of(uid)
            if record.pod[:2] == wanted
        ]
