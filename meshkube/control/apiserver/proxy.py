"""The `proxy` sub-resources: requests passed on to a node, a pod or a Service's endpoint.

What runs on a node is reached through that node's agent, so a server needs no route to pods; only
endpoints that are no pods are dialled from here. Source: Kubernetes documentation, "Proxies in
Kubernetes" (the apiserver proxy).
"""

from __future__ import annotations

import random
import ssl
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from meshkube.api import errors, kinds, meta
from meshkube.api.nodes import node_url
from meshkube.api.types import Object
from meshkube.control.apiserver import proxy_names
from meshkube.control.apiserver.connecting import connecting
from meshkube.control.apiserver.http import Call
from meshkube.control.apiserver.proxy_links import Page, location
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.tunnels import sub_protocols
from meshkube.tunnel.forwarding import (
    Body,
    Forwarder,
    Head,
    Rewrite,
    Target,
    Unreachable,
)
from meshkube.tunnel.verifying import UNREACHABLE, unverified

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class _Place:
    """`host` is what the target calls itself, in links that name it."""

    url: str
    host: str
    tls: ssl.SSLContext | None


class Proxy:
    """`tls` is what nodes are reached with."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = tls
        self._forwarder = Forwarder()
        self._unverified = unverified()

    async def aclose(self) -> None:
        await self._forwarder.aclose()

    async def handle(self, call: Call, route: Route) -> web.StreamResponse:
        """Raises `ApiError` before the answer starts."""
        if call.method not in METHODS:
            raise errors.method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        path, mark, query = call.request.raw_path.partition("?")
        if not route.tail and call.method in ("GET", "HEAD"):
            # Relative links of the page would else be taken from one level above.
            return web.Response(status=301, headers={"Location": f"{path}/{mark}{query}"})
        named = proxy_names.split(route.name)
        await connecting(self._registry, call, route, {"path": route.tail} if route.tail else {})
        if route.kind is kinds.NODE:
            place = await self._node(named)
        elif route.kind is kinds.POD:
            place = await self._pod(named, route.namespace)
        else:
            place = await self._service(named, route.namespace)
        target = Target(
            url=f"{place.url}{route.tail or '/'}{mark}{query}",
            tls=place.tls,
            headers=_added(call),
            dropped=_dropped(call),
        )
        prefix = path[: len(path) - len(route.tail)]
        try:
            return await self._forwarder.forward(call.request, target, _look(prefix, place.host))
        except Unreachable as error:
            raise errors.not_reached(str(error)) from error

    async def _node(self, named: proxy_names.Named) -> _Place:
        node = (await self._registry.get(kinds.NODE, named.name)).object
        base = node_url(node)
        parts = urlsplit(base)
        if named.port in ("", str(parts.port)):
            return _Place(base, parts.netloc, self._secure)
        if not named.port.isdigit():
            raise errors.bad_request(f"{named.port!r} is not a port")
        host = f"{parts.netloc.rpartition(':')[0]}:{named.port}"
        return self._direct(named.scheme, host)

    def _direct(self, scheme: str, host: str) -> _Place:
        tls = self._unverified if scheme == "https" else None
        return _Place(f"{scheme}://{host}", host, tls)

    async def _pod(self, named: proxy_names.Named, namespace: str) -> _Place:
        pod = (await self._registry.get(kinds.POD, named.name, namespace)).object
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise errors.bad_request(f"address not allowed: pod {named.name} has none yet")
        port = proxy_names.pod_port(pod, named.port)
        return await self._through_node(pod, named.scheme, address, port)

    async def _through_node(self, pod: Object, scheme: str, address: str, port: int) -> _Place:
        name = str((pod.get("spec") or {}).get("nodeName") or "")
        node = (await self._registry.get(kinds.NODE, name)).object
        path = f"/proxy/{meta.namespace(pod)}/{meta.name(pod)}/{scheme}/{port}"
        return _Place(node_url(node) + path, f"{address}:{port}", self._secure)

    async def _service(self, named: proxy_names.Named, namespace: str) -> _Place:
        service = (await self._registry.get(kinds.SERVICE, named.name, namespace)).object
        port = proxy_names.service_port(service, named.port)
        labels = f"kubernetes.io/service-name={named.name}"
        query = Query(kinds.ENDPOINT_SLICE, namespace, labels=labels, resource_version="0")
        slices = [item.object for item in (await self._registry.list(query)).items]
        found = proxy_names.endpoints(slices, port)
        if not found:
            raise errors.unavailable(f'no endpoints available for service "{named.name}"')
        chosen = random.choice(found)
        if chosen.pod:
            pod = (await self._registry.get(kinds.POD, chosen.pod, namespace)).object
            return await self._through_node(pod, named.scheme, chosen.address, chosen.port)
        address = ip_address(chosen.address)
        if address.is_loopback or address.is_link_local or address.is_multicast:
            raise errors.bad_request(f"address not allowed: {address}")
        return self._direct(named.scheme, chosen.authority)

    @property
    def _secure(self) -> ssl.SSLContext:
        if self._tls is None:
            raise errors.unavailable("this API server has no certificate to reach nodes with")
        return self._tls


def _added(call: Call) -> list[tuple[str, str]]:
    headers = [
        ("X-Forwarded-Uri", call.path),
        ("X-Forwarded-Host", call.header("Host")),
        ("X-Forwarded-Proto", "https"),
    ]
    if call.request.remote:
        before = call.header("X-Forwarded-For")
        chain = f"{before}, {call.request.remote}" if before else call.request.remote
        headers.append(("X-Forwarded-For", chain))
    if sub_protocols(call):
        headers.append(("Sec-WebSocket-Protocol", sub_protocols(call)))
    return headers


def _dropped(call: Call) -> set[str]:
    """Credentials for this API are nobody else's to see."""
    dropped = {name.lower() for name in call.request.headers if name.lower().startswith("imperson")}
    dropped.add("authorization")
    if not sub_protocols(call):
        dropped.add("sec-websocket-protocol")
    return dropped


def _look(prefix: str, host: str) -> Callable[[Head], Rewrite | None]:
    def look(head: Head) -> Rewrite | None:
        headers = head.headers
        if UNREACHABLE in headers:
            raise errors.not_reached(headers[UNREACHABLE])
        for name in [name for name in headers if name.lower().startswith("access-control-")]:
            # The proxied must not open this API to other origins.
            headers.popall(name, None)
        if "Location" in headers:
            headers["Location"] = location(headers["Location"], prefix, host)
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        encoding = headers.get("Content-Encoding", "").lower()
        if kind != "text/html" or encoding not in ("", "identity", "gzip"):
            return None
        headers.popall("Content-Encoding", None)
        return lambda body: _page(body, Page(prefix, host), packed=encoding == "gzip")

    return look


async def _page(body: Body, page: Page, *, packed: bool) -> Body:
    unpack = zlib.decompressobj(31).decompress if packed else bytes
    async for piece in body:
        found = page.feed(unpack(piece))
        if found:
            yield found
    rest = page.end()
    if rest:
        yield rest
