"""log, exec, attach and portforward: found here, answered by the node that runs the pod.

The node's agent serves the kubelet's paths over HTTPS and wants the API server's own client
certificate. Logs are streamed, over a WebSocket where that is asked for; the others are upgrades
(WebSocket or SPDY/3.1) that the node answers itself: their bytes pass untouched both ways.
"""

from __future__ import annotations

import ssl
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from meshkube.api import errors, kinds, meta
from meshkube.api.nodes import node_url
from meshkube.api.types import Object
from meshkube.control.apiserver.connecting import connecting
from meshkube.control.apiserver.http import Call, all_values, stream
from meshkube.control.apiserver.log_sockets import send_all, wants_socket
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.tunnels import refused, tunnel, unreachable, wants_upgrade

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
CONNECT_SECONDS = 10.0
_CHUNK = 64 * 1024
_LOG_QUERY = (
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
)
_EXEC_QUERY = ("stdin", "stdout", "stderr", "tty")


class Relay:
    """`tls` is what nodes are reached with: their CA, and this server's own certificate."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def handle(self, call: Call, route: Route) -> web.StreamResponse:
        """Raises `ApiError` before the answer starts."""
        pod = (await self._registry.get(kinds.POD, route.name, route.namespace)).object
        if route.subresource == "portforward":
            self._must_upgrade(call, route)
            ports = [("port", value) for value in all_values(call.request.raw_path, "ports")]
            await connecting(
                self._registry, call, route, {"ports": [int(p) for _, p in ports if p.isdigit()]}
            )
            path = f"/portForward/{route.namespace}/{route.name}"
            return await tunnel(
                call, await self._node_url(pod) + _target(path, ports), self._secure
            )
        container = container_of(pod, call.query.get("container", ""))
        base = await self._node_url(pod)
        tail = f"/{route.namespace}/{route.name}/{container}"
        if route.subresource == "log":
            return await self._log(call, f"{base}/containerLogs{tail}")
        self._must_upgrade(call, route)
        commands = all_values(call.request.raw_path, "command")
        await connecting(self._registry, call, route, _stream_options(call, container, commands))
        query = [(key, call.query[key]) for key in _EXEC_QUERY if key in call.query]
        query += [("command", value) for value in commands]
        return await tunnel(
            call, base + _target(f"/{route.subresource}{tail}", query), self._secure
        )

    def _must_upgrade(self, call: Call, route: Route) -> None:
        if not wants_upgrade(call):
            raise errors.bad_request(
                f"Upgrade request required: {route.subresource} wants a WebSocket (sub-protocols "
                f"{', '.join(PROTOCOLS)}) or SPDY/3.1"
            )

    @property
    def _secure(self) -> ssl.SSLContext:
        if self._tls is None:
            raise errors.unavailable("this API server has no certificate to reach nodes with")
        return self._tls

    async def _node_url(self, pod: Object) -> str:
        node_name = (pod.get("spec") or {}).get("nodeName")
        if not node_name:
            raise errors.bad_request(f"pod {meta.name(pod)} does not have a host assigned")
        node = (await self._registry.get(kinds.NODE, node_name)).object
        return node_url(node)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            connector = aiohttp.TCPConnector(ssl=self._secure, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, auto_decompress=False
            )
        return self._session

    async def _log(self, call: Call, url: str) -> web.StreamResponse:
        query = {key: call.query[key] for key in _LOG_QUERY if key in call.query}
        try:
            async with self._client().get(url, params=query) as upstream:
                if upstream.status != 200:
                    raise refused(upstream.status, await upstream.content.read(_CHUNK))
                if wants_socket(call):
                    return await send_all(call, upstream.content.iter_any())
                kind = upstream.headers.get("Content-Type", "text/plain; charset=utf-8")
                response = await stream(call, kind)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(url, error) from error


def _stream_options(call: Call, container: str, commands: list[str]) -> Object:
    options: Object = {key: True for key in _EXEC_QUERY if call.flag(key)}
    return options | {"container": container} | ({"command": commands} if commands else {})


def container_of(pod: Object, asked: str) -> str:
    """The container that is meant. Raises `ApiError` 400 with the choice where that is open."""
    spec = pod.get("spec") or {}
    groups = [
        [str(one.get("name")) for one in spec.get(field) or ()]
        for field in ("containers", "initContainers", "ephemeralContainers")
    ]
    names = [name for group in groups for name in group]
    if asked:
        if asked not in names:
            raise errors.bad_request(f"container {asked} is not valid for pod {meta.name(pod)}")
        return asked
    preferred = meta.annotations(pod).get(DEFAULT_CONTAINER, "")
    if preferred in names:
        return preferred
    if len(groups[0]) == 1 and len(names) == 1:
        return groups[0][0]
    if len(groups[0]) == 1 and not groups[1]:
        return groups[0][0]
    message = (
        f"a container name must be specified for pod {meta.name(pod)}, choose one of: "
        f"[{' '.join(groups[0])}]"
    )
    if groups[1]:
        message += f" or one of the init containers: [{' '.join(groups[1])}]"
    raise errors.bad_request(message)


def _target(path: str, query: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
