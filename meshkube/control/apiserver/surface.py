"""Every path that is not a resource: discovery, schemas, version, health, metrics, reviews."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

import orjson
from aiohttp import web

from meshkube import metrics
from meshkube.api import errors
from meshkube.api.kinds import REVIEWS, Kind
from meshkube.api.types import Object
from meshkube.control.apiserver import discovery, negotiation, reviews
from meshkube.control.apiserver.access import Access
from meshkube.control.apiserver.aggregation import merging
from meshkube.control.apiserver.aggregation.aggregator import Aggregator
from meshkube.control.apiserver.aggregation.remotes import Remotes
from meshkube.control.apiserver.catalog import Catalog
from meshkube.control.apiserver.http import Call, answer, document
from meshkube.control.apiserver.indicators import Indicators
from meshkube.control.apiserver.specs import Specs
from meshkube.parts import Health

HealthOf = Callable[[], Mapping[str, Health]]
"""How the daemon's parts are doing, by name."""
_PLATFORM = f"{platform.system().lower()}/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(
    platform.machine(), platform.machine()
)
Handler = Callable[[Call], Awaitable[web.StreamResponse]]
_NOBODY = Remotes()


class Surface:
    """`address` is what `/api` tells clients; `health` answers `/readyz`, and together with
    `listeners` (part -> where it listens) `/statusz`; `more` are further paths; `aggregator` knows
    the groups that others answer for."""

    def __init__(
        self,
        address: str,
        health: HealthOf,
        access: Access,
        catalog: Catalog,
        listeners: Mapping[str, str] | None = None,
        more: Mapping[str, Handler] | None = None,
        aggregator: Aggregator | None = None,
    ) -> None:
        self._catalog = catalog
        self._aggregator = aggregator
        self._specs = Specs(self._catalog)
        self._groups: discovery.Groups = {}
        self._bodies: dict[bool, bytes] = {}
        self._generation = (0, 0)
        self._address = address
        self._health = health
        self._indicators = Indicators(health)
        self._access = access
        self._listeners = listeners or {}
        self._fixed: dict[str, Handler] = {
            "/": self._paths,
            "/api": self._api,
            "/apis": self._apis,
            "/version": self._version,
            "/metrics": self._metrics,
            "/metrics/slis": self._slis,
            "/statusz": self._status,
            "/openapi/v2": self._specs.v2,
            "/openid/v1/jwks": self._key_set,
            "/.well-known/openid-configuration": self._issuer,
            **(more or {}),
        }
        self._reviews = {
            "/".join(("/apis", kind.group, kind.version, kind.plural)): kind for kind in REVIEWS
        }

    async def handle(self, call: Call) -> web.StreamResponse:
        """Raises `ApiError` 404 for a path that nothing serves."""
        path = call.path.rstrip("/") or "/"
        review, namespace = self._review_of(path)
        if review is not None:
            return await self._review(call, review.kind, namespace)
        if call.method not in ("GET", "HEAD"):
            raise errors.not_served()
        handler = self._fixed.get(path)
        if handler is not None:
            return await handler(call)
        if path == "/openapi/v3" or path.startswith("/openapi/v3/"):
            others = [one.path.strip("/") for one in self._remotes]
            return await self._specs.v3(call, path[len("/openapi/v3/") :], others)
        for check in ("/healthz", "/livez", "/readyz"):
            if path == check or path.startswith(check + "/"):
                return await self._health_of(call, check, path[len(check) + 1 :])
        return await self._group(call, path)

    async def _paths(self, call: Call) -> web.StreamResponse:
        paths = [*self._fixed, "/openapi/v3", "/healthz", "/livez", "/readyz"]
        for group, versions in self._grouped().items():
            root = f"/apis/{group}" if group else "/api"
            paths += [root, *(f"{root}/{version}" for version in versions)]
        return await document(call, {"paths": sorted(set(paths) - {"/"})})

    async def _api(self, call: Call) -> web.StreamResponse:
        if self._aggregated(call):
            return await self._discovery(call, core=True)
        return await document(call, discovery.api_versions(self._grouped(), self._address))

    async def _apis(self, call: Call) -> web.StreamResponse:
        if self._aggregated(call):
            return await self._discovery(call, core=False)
        listed = discovery.api_group_list(self._grouped())
        return await document(call, merging.group_list(listed, self._remotes))

    @property
    def _remotes(self) -> Remotes:
        return self._aggregator.remotes if self._aggregator is not None else _NOBODY

    def _grouped(self) -> discovery.Groups:
        """What is served now; sorted, and later encoded, once for each change of it."""
        others = self._aggregator.generation if self._aggregator is not None else 0
        if self._generation != (self._catalog.generation, others):
            self._generation = (self._catalog.generation, others)
            self._groups = discovery.grouped(self._catalog.kinds)
            self._bodies.clear()
        return self._groups

    def _aggregated(self, call: Call) -> bool:
        accepted = negotiation.accept(call.header("Accept"), ("object", "discovery"))
        return accepted.form == "discovery"

    async def _discovery(self, call: Call, *, core: bool) -> web.StreamResponse:
        groups = self._grouped()
        body = self._bodies.get(core)
        if body is None:
            listed = discovery.aggregated(groups, core)
            if self._aggregator is not None and not core:
                listed = merging.aggregated(listed, self._remotes, self._aggregator.resources)
            body = self._bodies[core] = orjson.dumps(listed)
        tag = etag(body)
        headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "public"}
        if call.header("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return await answer(call, body, content_type=discovery.AGGREGATED, headers=headers)

    async def _group(self, call: Call, path: str) -> web.StreamResponse:
        parts = path.split("/")[1:]
        groups = self._grouped()
        found = None
        if parts[0] == "api" and len(parts) == 2:
            found = discovery.api_resource_list(groups, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            found = merging.group(discovery.api_group(groups, parts[1]), self._remotes, parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = discovery.api_resource_list(groups, parts[1], parts[2])
        if found is None:
            raise errors.not_served()
        return await document(call, found)

    async def _version(self, call: Call) -> web.StreamResponse:
        return await document(call, discovery.version(_PLATFORM))

    async def _metrics(self, call: Call) -> web.StreamResponse:
        return await answer(call, metrics.exposition(), content_type=metrics.CONTENT_TYPE)

    async def _slis(self, call: Call) -> web.StreamResponse:
        body = self._indicators.exposition()
        return await answer(call, body, content_type=metrics.CONTENT_TYPE)

    async def _status(self, call: Call) -> web.StreamResponse:
        """Our own, for `meshkube status`: how each part does, and where it listens."""
        parts = {name: asdict(health) for name, health in self._health().items()}
        version = discovery.version(_PLATFORM)["gitVersion"]
        status = {"version": version, "listeners": self._listeners, "parts": parts}
        return await document(call, status)

    async def _health_of(self, call: Call, check: str, part: str) -> web.StreamResponse:
        """`/livez` says that this process answers; `/readyz` that every part serves."""
        parts = self._health() if check == "/readyz" else {}
        if part:
            parts = {name: health for name, health in parts.items() if name == part}
            if not parts and part != "ping":
                raise errors.not_served()
        left_out = {value for key, value in call.query.items() if key == "exclude"}
        failed = [name for name, one in parts.items() if not one.ready and name not in left_out]
        status = 500 if failed else 200
        if "verbose" not in call.query and not failed:
            return await _text(call, "ok", status)
        lines = ["[+]ping ok"]
        for name, one in parts.items():
            if name in left_out:
                lines.append(f"[+]{name} excluded: ok")
            elif one.ready:
                lines.append(f"[+]{name} ok")
            else:
                lines.append(f"[-]{name} failed: {one.message}")
        lines.append(f"{check[1:]} check {'failed' if failed else 'passed'}")
        return await _text(call, "\n".join(lines) + "\n", status)

    def _review_of(self, path: str) -> tuple[Kind | None, str]:
        """The kind of review and the namespace that a path names."""
        parts = path.split("/")
        namespace = ""
        if len(parts) == 7 and parts[4] == "namespaces":
            namespace = parts[5]
            path = "/".join([*parts[:4], parts[6]])
        kind = self._reviews.get(path)
        if kind is None or kind.namespaced != bool(namespace):
            return None, ""
        return kind, namespace

    async def _key_set(self, call: Call) -> web.StreamResponse:
        return await self._of_issuer(
            call, self._access.issuer.key_set(), "application/jwk-set+json"
        )

    async def _issuer(self, call: Call) -> web.StreamResponse:
        host = call.header("Host") or self._address
        content = self._access.issuer.configuration(f"https://{host}")
        return await self._of_issuer(call, content, "application/json")

    async def _of_issuer(self, call: Call, content: Object, type_: str) -> web.StreamResponse:
        headers = {"Cache-Control": "public, max-age=3600"}
        return await answer(call, orjson.dumps(content), content_type=type_, headers=headers)

    async def _review(self, call: Call, kind: str, namespace: str) -> web.StreamResponse:
        if call.method != "POST":
            raise errors.method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        accepted = negotiation.accept(call.header("Accept"), ("object",))
        body = await call.decoded()
        if not isinstance(body, dict):
            raise errors.bad_request("the object provided is not a JSON object")
        content = reviews.answer(kind, body, call.user, self._access, namespace)
        return await document(call, content, 201, yaml=accepted.yaml)


def etag(body: bytes) -> str:
    return '"' + hashlib.sha256(body).hexdigest().upper() + '"'


async def _text(call: Call, text: str, status: int) -> web.StreamResponse:
    return await answer(
        call,
        text.encode(),
        status,
        "text/plain; charset=utf-8",
        {"X-Content-Type-Options": "nosniff"},
    )
