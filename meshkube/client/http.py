"""The Client over HTTP(S), for any Kubernetes API server."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import aiohttp
import orjson

from meshkube import __version__
from meshkube.api import errors, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.client import kubeconfig, lines
from meshkube.client.base import ObjectList, PatchType, Propagation, WatchEvent
from meshkube.client.servers import Servers
from meshkube.client.transport import Params, Transport, decoded

REQUEST_SECONDS = 60.0
# The server is asked to end a watch after a random time in this range, so that watches spread
# over its replicas again; a server that is silent for so much longer is taken for dead.
WATCH_SECONDS = (300, 600)
WATCH_GRACE_SECONDS = 30

_CONTENT_TYPES: Mapping[PatchType, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    # JSON is YAML.
    "apply": "application/apply-patch+yaml",
}


class HttpClient:
    """`client.base.Client` over HTTP(S). Close it with `aclose`, or use it in `async with`.

    A server that cannot be reached gives `ApiError` 503 with the reason in its message.
    """

    def __init__(
        self,
        server: str | Sequence[str],
        ssl_context: ssl.SSLContext | None = None,
        token: str = "",
        *,
        server_hostname: str = "",
    ) -> None:
        """`server` is a URL such as `https://10.0.0.1:6443`, or several of one cluster; `token` is
        sent as a bearer token; `server_hostname` is the name to expect in its certificate."""
        headers = {"Accept": "application/json", "User-Agent": f"meshkube/{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        servers = Servers([server] if isinstance(server, str) else server)
        self._transport = Transport(servers, ssl_context, headers, server_hostname)
        self._as: dict[str, str] = {}

    @classmethod
    def from_kubeconfig(cls, path: Path | str, context: str = "") -> HttpClient:
        """A client for a context (empty: the current one) of a kubeconfig file. Raises
        `config.ConfigError` with one line that names the file and the fault."""
        access = kubeconfig.load(path, context)
        return cls(
            access.server,
            access.ssl_context,
            access.token,
            server_hostname=access.server_hostname,
        )

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends every connection; safe to call twice."""
        await self._transport.aclose()

    @property
    def server(self) -> str:
        """The URL of the server in use."""
        return self._transport.servers.current

    @property
    def servers(self) -> Servers:
        """All that may be asked."""
        return self._transport.servers

    async def renew(self) -> None:
        """After a change of the TLS context's certificate: new requests show the new one."""
        await self._transport.renew()

    def acting_as(self, user: str, group: str = "") -> HttpClient:
        """A client that impersonates `user`, a member of `group` where one is given, over the same
        connections; this one closes them."""
        client = HttpClient.__new__(HttpClient)
        client._transport = self._transport
        client._as = {"Impersonate-User": user}
        if group:
            client._as["Impersonate-Group"] = group
        return client

    async def get(
        self, kind: Kind, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        return await self._object("GET", _path(kind, namespace, name, subresource))

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ObjectList:
        params = _given(
            labelSelector=labels,
            fieldSelector=fields,
            limit=str(limit or ""),
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        page = await self._object("GET", _path(kind, namespace), params)
        items = page.get("items") or []
        for item in items:
            # Servers leave these out of the items of a list.
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        metadata = meta.metadata(page)
        return ObjectList(items, meta.resource_version(page), str(metadata.get("continue") or ""))

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
    ) -> AsyncGenerator[WatchEvent, None]:
        """`Client.watch`. Close it (`contextlib.aclosing`) when done."""
        seconds = random.randint(*WATCH_SECONDS)
        params = _given(
            watch="true",
            allowWatchBookmarks="true" if bookmarks else "",
            labelSelector=labels,
            fieldSelector=fields,
            resourceVersion=resource_version,
            timeoutSeconds=str(seconds),
        )
        timeout = _endless(seconds + WATCH_GRACE_SECONDS)
        chunks = self._stream(_path(kind, namespace), params, timeout)
        async with contextlib.aclosing(chunks), contextlib.aclosing(lines.split(chunks)) as events:
            async for line in events:
                yield _event(line)

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        name = meta.name(obj) if subresource else ""
        path = _path(kind, namespace or meta.namespace(obj), name, subresource)
        return await self._object("POST", path, body=obj)

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        path = _path(kind, meta.namespace(obj), meta.name(obj), subresource)
        return await self._object("PUT", path, body=obj)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: JSON,
        namespace: str | None = None,
        *,
        type: PatchType = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        params = _given(fieldManager=field_manager, force="true" if force else "")
        path = _path(kind, namespace, name, subresource)
        return await self._object("PATCH", path, params, patch, _CONTENT_TYPES[type])

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        grace_period: int | None = None,
        uid: str = "",
        resource_version: str = "",
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if uid or resource_version:
            options["preconditions"] = _given(uid=uid, resourceVersion=resource_version)
        await self._object("DELETE", _path(kind, namespace, name), body=options)

    async def get_raw(self, path: str, params: Params | None = None, *, accept: str = "") -> bytes:
        """The body of a GET of any path of the server (`/version`, `/metrics`, ...), in the media
        type `accept` (empty: JSON)."""
        return await self._request("GET", path, params, accept=accept)

    async def stream(self, path: str, params: Params | None = None) -> AsyncGenerator[bytes, None]:
        """The body of a GET in pieces, as they come, for as long as the server sends (a log
        that is followed). Close it (`contextlib.aclosing`) when done."""
        async with contextlib.aclosing(self._stream(path, params or {}, _endless(None))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def send(self, path: str, body: AsyncIterable[bytes]) -> bytes:
        """The answer to a POST of bytes that come bit by bit, for as long as it takes."""
        headers = {**self._as, "Content-Type": "application/octet-stream"}
        async with self._transport.response(
            "POST", path, None, body, headers, _endless(None)
        ) as response:
            return await response.read()

    async def _object(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: JSON = None,
        content_type: str = "application/json",
    ) -> Object:
        content = await self._request(method, path, params, body, content_type)
        answer = decoded(content)
        if not isinstance(answer, dict):
            raise errors.internal(f"{method} {path}: the server did not answer with an object")
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: JSON = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> bytes:
        headers = {**self._as, **({"Accept": accept} if accept else {})}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with (
            self._transport.turn(path),
            self._transport.response(method, path, params, data, headers, timeout) as response,
        ):
            return await response.read()

    async def _stream(
        self, path: str, params: Params, timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[bytes, None]:
        # Compressed, an event could wait in the compressor for the next one.
        headers = {**self._as, "Accept-Encoding": "identity"}
        async with self._transport.response(
            "GET", path, params, None, headers, timeout
        ) as response:
            async for chunk in response.content.iter_any():
                yield chunk


def _path(kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    return kind.path(quote(namespace or "", safe=""), quote(name, safe=""), subresource)


def _given(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _endless(silence: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_read=silence)


def _event(line: bytes) -> WatchEvent:
    event = decoded(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise errors.internal(f"the server sent no watch event: {str(event)[:200]}")
    if event.get("type") == "ERROR":
        raise ApiError.of(event["object"])
    return WatchEvent(event["type"], event["object"])
