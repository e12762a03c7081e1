"""log, exec and attach: found here, answered by the node that runs the pod.

The node's agent serves the kubelet's paths over HTTPS and wants the API server's own client
certificate. Logs are streamed; exec and attach are WebSockets whose frames pass untouched both
ways (sub-protocols `v4.channel.k8s.io` and `v5.channel.k8s.io`).
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.http import Call, all_values, split_target, stream
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.routing import Route

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
        container = container_of(pod, call.query.get("container", ""))
        base = await self._node_url(pod)
        if route.subresource == "log":
            return await self._log(call, f"{base}/containerLogs{_tail(pod, container)}")
        if call.header("Upgrade").lower() != "websocket":
            raise errors.bad_request(
                f"{route.subresource} wants a WebSocket upgrade with one of the sub-protocols "
                + ", ".join(PROTOCOLS)
            )
        return await self._stream(call, f"{base}/{route.subresource}{_tail(pod, container)}")

    async def _node_url(self, pod: Object) -> str:
        node_name = (pod.get("spec") or {}).get("nodeName")
        if not node_name:
            raise errors.bad_request(f"pod {meta.name(pod)} does not have a host assigned")
        node = (await self._registry.get(kinds.NODE, node_name)).object
        return node_url(node)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            if self._tls is None:
                raise errors.unavailable("this API server has no certificate to reach nodes with")
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, auto_decompress=False
            )
        return self._session

    async def _log(self, call: Call, url: str) -> web.StreamResponse:
        query = {key: call.query[key] for key in _LOG_QUERY if key in call.query}
        try:
            async with self._client().get(url, params=query) as upstream:
                if upstream.status != 200:
                    raise await _refused(upstream)
                kind = upstream.headers.get("Content-Type", "text/plain; charset=utf-8")
                response = await stream(call, kind)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(url, error) from error

    async def _stream(self, call: Call, url: str) -> web.StreamResponse:
        target = call.request.raw_path
        query = [(key, call.query[key]) for key in _EXEC_QUERY if key in call.query]
        query += [("command", value) for value in all_values(target, "command")]
        offered = [one.strip() for one in call.header("Sec-WebSocket-Protocol").split(",")]
        protocols = [one for one in PROTOCOLS if one in offered]
        if not protocols:
            raise errors.bad_request(
                "the sub-protocols of the request are not supported; these are: "
                + ", ".join(PROTOCOLS)
            )
        try:
            node = await self._client().ws_connect(
                f"{url}?{urlencode(query)}", protocols=protocols, max_msg_size=0, autoclose=False
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(url, error) from error
        async with node:
            chosen = [node.protocol] if node.protocol else protocols
            client = web.WebSocketResponse(
                protocols=chosen, max_msg_size=0, autoclose=False, compress=False
            )
            await client.prepare(call.request)
            call.started = True
            await _both_ways(client, node)
        return client


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _both_ways(client: web.WebSocketResponse, node: aiohttp.ClientWebSocketResponse) -> None:
    """Until either side ends; then the other is closed with the same code."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_pass_on(client, node))
        group.create_task(_pass_on(node, client))


async def _pass_on(source: Socket, sink: Socket) -> None:
    while True:
        message = await source.receive()
        try:
            if message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            else:
                break
        except (ConnectionError, aiohttp.ClientError):
            break
    code = source.close_code or aiohttp.WSCloseCode.OK
    await source.close()
    await sink.close(code=code if code < 5000 and code != 1006 else aiohttp.WSCloseCode.OK)


def node_url(node: Object) -> str:
    """Where a node's agent listens. Raises `ApiError` 503 where the Node does not say."""
    status = node.get("status") or {}
    addresses = {one.get("type"): one.get("address") for one in status.get("addresses") or ()}
    address = addresses.get("InternalIP") or addresses.get("Hostname")
    endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    if not address:
        raise errors.unavailable(f"node {meta.name(node)} has no address")
    host = f"[{address}]" if ":" in address else address
    return f"https://{host}:{endpoint.get('Port') or 10250}"


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


def _tail(pod: Object, container: str) -> str:
    return f"/{meta.namespace(pod)}/{meta.name(pod)}/{container}"


async def _refused(upstream: aiohttp.ClientResponse) -> ApiError:
    content = await upstream.content.read(_CHUNK)
    text = content.decode(errors="replace").strip()
    if upstream.status == 404:
        return ApiError(404, "NotFound", text or "the node has no such container")
    if upstream.status == 400:
        return errors.bad_request(text)
    return errors.internal(f"the node answered {upstream.status}: {text}")


def _unreachable(url: str, error: BaseException) -> ApiError:
    host = split_target(url)[0].split("/")[2]
    reason = str(error) or type(error).__name__
    return errors.internal(f"error dialing the node at {host}: {reason}")
