"""Reaches extension API servers: where each is, the TLS it is reached with, and what it serves."""

from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver import proxy_names
from meshkube.control.apiserver.aggregation import front_proxy
from meshkube.control.apiserver.aggregation.availability import Unavailable
from meshkube.control.apiserver.aggregation.remotes import Remote
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.auth.users import MASTERS, User
from meshkube.tunnel.answers import whole
from meshkube.tunnel.forwarding import Target
from meshkube.tunnel.verifying import trusting

CHECK_SECONDS = 5.0
LARGEST_ANSWER = 4 * 1024 * 1024
AGGREGATOR = User("system:kube-aggregator", (MASTERS,))
"""Who asks when nobody else does."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The certificate that this server shows as a front proxy, and its key (PEM)."""

    certificate: Path
    key: Path


class Asking:
    """Close it with `aclose`."""

    def __init__(self, lookup: Lookup, keys: KeyFiles) -> None:
        self._lookup = lookup
        self._keys = keys
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def target(self, remote: Remote, path: str, user: User, sent: list[str]) -> Target:
        """Where a request for `path` (with its query) goes: to one of the Service's endpoints.
        `sent` are the names of the client's headers. Raises `Unavailable`."""
        found = self._endpoint(remote)
        return Target(
            url=f"https://{found.authority}{path}",
            tls=self._context(remote),
            headers=list(front_proxy.headers(user)),
            dropped=front_proxy.told_by_client(sent),
            name=f"{remote.service}.{remote.namespace}.svc",
        )

    async def resources(self, remote: Remote) -> list[Object]:
        """What it says it serves, as in an APIResourceList. Raises `Unavailable`."""
        target = self.target(remote, remote.path, AGGREGATOR, [])
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await self._get(target)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or "no answer in time"
            message = f"failing or missing response from {target.url}: {why}"
            raise Unavailable("FailedDiscoveryCheck", message) from error

    async def _get(self, target: Target) -> list[Object]:
        """Raises what aiohttp raises, `OSError`, `ValueError`."""
        async with self._open().get(
            target.url,
            headers=[("Accept", "application/json"), *target.headers],
            ssl=target.tls or True,
            server_hostname=target.name,
            allow_redirects=False,
        ) as answer:
            body = await whole(answer, LARGEST_ANSWER)
            if not 200 <= answer.status < 300:
                said = " ".join(body[:300].decode(errors="replace").split())
                raise ValueError(f"bad status: {answer.status}: {said}")
            found = orjson.loads(body)
        listed = found.get("resources") if isinstance(found, dict) else None
        return [one for one in listed or () if isinstance(one, dict)]

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _endpoint(self, remote: Remote) -> proxy_names.Endpoint:
        place = f'service/{remote.service} in "{remote.namespace}"'
        service = self._lookup.find(kinds.SERVICE, remote.service, remote.namespace)
        if service is None:
            raise Unavailable("ServiceNotFound", f"{place} is not present")
        try:
            port = proxy_names.service_port(service, str(remote.port))
        except ApiError:
            message = f"{place} is not listening on port {remote.port}"
            raise Unavailable("ServicePortError", message) from None
        beside = self._lookup.inside(kinds.ENDPOINT_SLICE, remote.namespace)
        slices = proxy_names.of_service(beside, remote.service)
        if not slices:
            message = f"cannot find endpointslices for {place}"
            raise Unavailable("EndpointsNotFound", message)
        found = proxy_names.endpoints(slices, port)
        if not found:
            message = f'endpoints for {place} have no addresses with port name "{port}"'
            raise Unavailable("MissingEndpoints", message)
        return random.choice(found)

    def _context(self, remote: Remote) -> ssl.SSLContext:
        """Made once for each bundle. Raises `Unavailable`."""
        wanted = remote.bundle, remote.skips
        context = self._contexts.get(wanted)
        if context is None:
            try:
                context = trusting(remote.bundle, anybody=remote.skips)
            except ValueError as error:
                raise Unavailable("FailedDiscoveryCheck", f"caBundle: {error}") from None
            context.load_cert_chain(self._keys.certificate, self._keys.key)
            self._contexts[wanted] = context
        return context

    def forget(self, kept: set[tuple[str, bool]]) -> None:
        """Drops the TLS contexts of bundles that nobody names any more."""
        self._contexts = {key: one for key, one in self._contexts.items() if key in kept}
