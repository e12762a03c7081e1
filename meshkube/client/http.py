"""The Client over HTTP(S), for any Kubernetes API server."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from meshkube import __version__
from meshkube.api import errors, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.client import kubeconfig, lines
from meshkube.client.base import ObjectList, PatchType, Propagation, WatchEvent

CONNECT_SECONDS = 10.0
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
Params: TypeAlias = Mapping[str, str]


class HttpClient:
    """`client.base.Client` over HTTP(S). Close it with `aclose`, or use it in `async with`.

    A server that cannot be reached gives `ApiError` 503 with the reason in its message.
    """

    def __init__(
        self,
        server: str,
        ssl_context: ssl.SSLContext | None = None,
        token: str = "",
        *,
        server_hostname: str = "",
    ) -> None:
        """`server` is a URL such as `https://10.0.0.1:6443`; `token` is sent as a bearer token;
        `server_hostname` is the name to expect in its certificate."""
        self.server = server.rstrip("/")
        self._ssl = ssl_context
        self._server_hostname = server_hostname
        self._headers = {"Accept": "application/json", "User-Agent": f"meshkube/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

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
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return await self._object("GET", _path(kind, namespace, name))

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

    async def _object(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: JSON = None,
        content_type: str = "application/json",
    ) -> Object:
        content = await self._request(method, path, params, body, content_type)
        decoded = _decoded(content)
        if not isinstance(decoded, dict):
            raise errors.internal(f"{method} {path}: the server did not answer with an object")
        return decoded

    async def _request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: JSON = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> bytes:
        headers = {"Accept": accept} if accept else {}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._response(method, path, params, data, headers, timeout) as response:
            return await response.read()

    async def _stream(
        self, path: str, params: Params, timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[bytes, None]:
        # Compressed, an event could wait in the compressor for the next one.
        headers = {"Accept-Encoding": "identity"}
        async with self._response("GET", path, params, None, headers, timeout) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    @contextlib.asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | None,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with a good status; any failure, also later in its body, as `ApiError`."""
        url = URL(self.server + path, encoded=True)
        if params:
            url = url.update_query(params)
        try:
            async with self._connected().request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=timeout,
                server_hostname=self._server_hostname or None,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise ApiError.of(_decoded(await response.read()), response.status)
                yield response
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise errors.unavailable(f"{self.server}: {_reason(error)}") from error

    def _connected(self) -> aiohttp.ClientSession:
        if self._closed:
            raise errors.unavailable(f"{self.server}: the client is closed")
        if self._session is None:
            connector = aiohttp.TCPConnector(
                # Watches each hold a connection for minutes.
                limit=0,
                ssl=self._ssl if self._ssl is not None else True,
                socket_factory=_socket,
                keepalive_timeout=60,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=256 * 1024,
            )
        return self._session


def _path(kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    return kind.path(quote(namespace or "", safe=""), quote(name, safe=""), subresource)


def _given(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _endless(silence: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)


def _decoded(content: bytes) -> JSON:
    """The JSON value, or the text where it is none."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace").strip()


def _event(line: bytes) -> WatchEvent:
    event = _decoded(line)
    if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
        raise errors.internal(f"the server sent no watch event: {str(event)[:200]}")
    if event.get("type") == "ERROR":
        raise ApiError.of(event["object"])
    return WatchEvent(event["type"], event["object"])


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _socket(address: Any) -> socket.socket:
    """A socket on which the kernel notices within half a minute that the other host has gone."""
    family, type_, protocol = address[:3]
    made = socket.socket(family, type_, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made
