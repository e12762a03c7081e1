"""Calls webhooks: admission and conversion reviews go out, what comes back is read.

A pod is reached through its node's agent, as the API's own proxy reaches it, so a server needs no
route to pods: the agent speaks TLS to the pod, with the name and the CA that it is told. Endpoints
that are no pods, and `url`s, are dialled from here.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass

import aiohttp
import orjson
from yarl import URL

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.nodes import node_url
from meshkube.api.types import JSON, Object
from meshkube.control.apiserver import proxy_names
from meshkube.control.apiserver.lookup import Lookup
from meshkube.tunnel.answers import whole
from meshkube.tunnel.verifying import UNREACHABLE, Verify, verified

LARGEST_ANSWER = 16 * 1024 * 1024
_STALE = ("disconnected", "reset by peer", "broken pipe")
"""How a kept connection fails that the other side closed: worth one more try."""


class CallFailed(Exception):
    """The webhook gave no answer that could be read. Nobody knows what it did."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a webhook is: the URL to ask, how it is called in messages, and the TLS there."""

    url: str
    shown: str
    tls: ssl.SSLContext
    name: str = ""
    """The name that its certificate must have, where the URL does not say it."""
    headers: tuple[tuple[str, str], ...] = ()


class WebhookClient:
    """Reaches pods once it has been told by `use` what nodes are reached with. Close it with
    `aclose`."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._node_tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    def use(self, node_tls: ssl.SSLContext) -> None:
        """What nodes are reached with: their CA, and this server's own certificate."""
        self._node_tls = node_tls

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(self, where: Object, body: Object, seconds: int) -> JSON:
        """What the webhook at a `clientConfig` answers. Raises `CallFailed`."""
        query = f"?timeout={seconds}s"
        place = self._place(where, query)
        try:
            async with asyncio.timeout(seconds):
                return await self._post(place, orjson.dumps(body))
        except TimeoutError:
            raise CallFailed(f'Post "{place.shown}": context deadline exceeded') from None

    async def _post(self, place: _Place, content: bytes) -> JSON:
        try:
            return await self._try(place, content)
        except CallFailed as error:
            if not any(one in str(error).lower() for one in _STALE):
                raise
        return await self._try(place, content)

    async def _try(self, place: _Place, content: bytes) -> JSON:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        try:
            async with self._open().post(
                URL(place.url, encoded=True),
                data=content,
                headers=[*headers.items(), *place.headers],
                ssl=place.tls,
                server_hostname=place.name or None,
                allow_redirects=False,
            ) as answer:
                return _read(place, answer, await whole(answer, LARGEST_ANSWER))
        except ValueError as error:
            raise CallFailed(str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            why = str(error) or type(error).__name__
            raise CallFailed(f'Post "{place.shown}": {why}') from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _place(self, where: Object, query: str) -> _Place:
        """Raises `CallFailed`."""
        bundle = str(where.get("caBundle") or "")
        if where.get("url"):
            url = str(where["url"]) + query
            return _Place(url, url, _context(bundle))
        service = where.get("service") or {}
        space, name = str(service.get("namespace")), str(service.get("name"))
        port, path = service.get("port") or 443, "/" + str(service.get("path") or "").lstrip("/")
        host = f"{name}.{space}.svc"
        shown = f"https://{host}:{port}{path}{query}"
        try:
            found = self._endpoint(space, name, str(port))
            if found.pod:
                return self._through_node(found, space, path + query, shown, Verify(host, bundle))
        except ApiError as error:
            raise CallFailed(f'Post "{shown}": {error.message}') from None
        url = f"https://{found.authority}{path}{query}"
        return _Place(url, shown, _context(bundle), host)

    def _endpoint(self, space: str, name: str, port: str) -> proxy_names.Endpoint:
        """Raises `ApiError` 503, `CallFailed`."""
        service = self._lookup.find(kinds.SERVICE, name, space)
        if service is None:
            raise CallFailed(f'service "{name}" not found')
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            raise CallFailed(f'service "{name}" is of type ExternalName: give its `url`')
        wanted = proxy_names.service_port(service, port)
        slices = self._lookup.inside(kinds.ENDPOINT_SLICE, space)
        found = proxy_names.endpoints(proxy_names.of_service(slices, name), wanted)
        if not found:
            raise CallFailed(f'no endpoints available for service "{name}"')
        return random.choice(found)

    def _through_node(
        self, found: proxy_names.Endpoint, space: str, tail: str, shown: str, verify: Verify
    ) -> _Place:
        """Raises `ApiError` 503, `CallFailed`."""
        pod = self._lookup.find(kinds.POD, found.pod, space) or {}
        node_name = (pod.get("spec") or {}).get("nodeName") or found.node
        node = self._lookup.find(kinds.NODE, node_name)
        if node is None or self._node_tls is None:
            raise CallFailed(f'Post "{shown}": node "{node_name}" cannot be reached from here')
        url = f"{node_url(node)}/proxy/{space}/{found.pod}/https/{found.port}{tail}"
        return _Place(url, shown, self._node_tls, headers=tuple(verify.headers()))


def _read(place: _Place, answer: aiohttp.ClientResponse, text: bytes) -> JSON:
    if UNREACHABLE in answer.headers:
        raise CallFailed(f'Post "{place.shown}": {answer.headers[UNREACHABLE]}')
    if not 200 <= answer.status < 300:
        said = " ".join(text[:300].decode(errors="replace").split())
        raise CallFailed(f'Post "{place.shown}": the webhook answered {answer.status}: {said}')
    try:
        found: JSON = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CallFailed(f'Post "{place.shown}": the answer is not JSON: {error}') from None
    return found


def _context(bundle: str) -> ssl.SSLContext:
    try:
        return verified(bundle)
    except ValueError as error:
        raise CallFailed(f"caBundle: {error}") from None
