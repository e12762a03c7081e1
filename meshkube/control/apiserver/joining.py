"""What hosts ask for when they come into the cluster: its CA, its settings, a server's keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from meshkube.api.types import Object
from meshkube.control.apiserver.http import Call, answer, document
from meshkube.control.auth.bootstrap import BUNDLE_PATH
from meshkube.control.auth.component_roles import CA_PATH, CLUSTER_PATH

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Joining:
    """`ca` is the CA's certificate, PEM; `settings` are those that hold for all hosts; `bundle`
    gives what another server needs, its node's name in hand, or raises `ApiError`."""

    def __init__(
        self, *, ca: bytes, settings: Mapping[str, str], bundle: Callable[[str], Object]
    ) -> None:
        self._ca = ca
        self._settings = settings
        self._bundle = bundle

    def handlers(self) -> Mapping[str, Handler]:
        """By path."""
        return {CA_PATH: self._authority, CLUSTER_PATH: self._cluster, BUNDLE_PATH: self._server}

    async def _authority(self, call: Call) -> web.StreamResponse:
        return await answer(call, self._ca, content_type="application/x-pem-file")

    async def _cluster(self, call: Call) -> web.StreamResponse:
        return await document(call, {"settings": self._settings})

    async def _server(self, call: Call) -> web.StreamResponse:
        return await document(call, self._bundle(call.query.get("node", "")))
