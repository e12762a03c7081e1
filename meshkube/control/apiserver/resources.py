"""HTTP requests on resources: each becomes one call of the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import orjson
from aiohttp import web

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.printing import Include, table
from meshkube.api.types import Object
from meshkube.control.apiserver import (
    negotiation,
    option_faults,
    patching,
    rendering,
    token_requests,
)
from meshkube.control.apiserver.cache import Cached
from meshkube.control.apiserver.http import Call, answer, document
from meshkube.control.apiserver.matching import Asked
from meshkube.control.apiserver.negotiation import Accepted
from meshkube.control.apiserver.options import DeleteOptions, FieldValidation, WriteOptions
from meshkube.control.apiserver.reading import Listing, Match, Query
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.turns import in_turns
from meshkube.control.apiserver.writing import LONG_BYTES

T = TypeVar("T")
AT_ONCE = 16
"""Rows, or objects, that are made at a time."""
_STREAMS = ("log", "exec", "attach", "portforward", "proxy")


def verb_of(method: str, route: Route, watch: bool) -> str:
    """The verb of Kubernetes' own that a request means; empty where it means none."""
    if method in ("GET", "HEAD"):
        if route.name and not watch:
            return "get"
        return "watch" if watch else "list"
    if method == "POST":
        return "create" if not route.name or route.subresource else ""
    if method == "DELETE":
        return "delete" if route.name else "deletecollection"
    named = {"PUT": "update", "PATCH": "patch"}
    return named.get(method, "") if route.name else ""


class Resources:
    """The requests that are answered with one whole body."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, call: Call, route: Route) -> web.StreamResponse:
        """Raises `ApiError`."""
        handlers = {
            "get": self._get,
            "list": self._list,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        handler = handlers.get(call.verb)
        if handler is None or not _allowed(call.verb, route):
            raise errors.method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        if route.kind.namespaced and not route.namespace and call.verb != "list":
            raise errors.method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        return await handler(call, route)

    async def _get(self, call: Call, route: Route) -> web.StreamResponse:
        accepted = negotiation.accept(call.header("Accept"))

        async def read(version: str) -> Cached:
            return await self._registry.get(
                route.kind, route.name, route.namespace, route.subresource, version
            )

        found = await self._newest(call, call.query.get("resourceVersion", ""), read)
        return await self._one(call, route, found, accepted)

    async def _newest(self, call: Call, version: str, read: Callable[[str], Awaitable[T]]) -> T:
        """What `read` gives for a resourceVersion; where the newest was asked for and the store
        does not say what that is, what the cache holds, marked as such. Raises `ApiError`."""
        health = self._registry.feed.health
        try:
            return await read(version)
        except ApiError as error:
            if version or not health.away or "no-cache" in call.header("Cache-Control"):
                raise
            away = error
        try:
            found = await read("0")
        except ApiError as error:
            # It may have been made since: that it is absent is not for a cache to say.
            raise away if error.code == 404 else error from None
        call.age = int(health.age)
        call.warnings.append(
            f"the store does not answer: this is from the cache, {call.age} s old or older"
        )
        return found

    async def _one(
        self, call: Call, route: Route, found: Cached, accepted: Accepted, status: int = 200
    ) -> web.StreamResponse:
        if accepted == Accepted():
            return await answer(call, found.raw + b"\n", status)
        if accepted.form == "metadata":
            content = rendering.metadata_of(found, accepted.version)
        elif accepted.form == "table" and route.subresource != "scale":
            content = table(
                route.kind,
                [found.object],
                self._registry.clock.now(),
                include_object=include(call),
                metadata={"resourceVersion": str(found.revision)},
                version=accepted.version,
            )
        else:
            content = found.object
        return await document(call, content, status, yaml=accepted.yaml)

    async def _list(self, call: Call, route: Route) -> web.StreamResponse:
        accepted = negotiation.accept(call.header("Accept"))
        option_faults.check_list(call.query)
        query = query_of(call, route)

        async def read(version: str) -> Listing:
            # The next page of what is not the newest could not be had.
            limit = 0 if version else query.limit
            return await self._registry.list(replace(query, resource_version=version, limit=limit))

        # A page of a past revision comes from the store.
        asked = query.resource_version or query.continue_token
        if asked:
            listing = await self._registry.list(query)
        else:
            listing = await self._newest(call, "", read)
        if accepted == Accepted():
            return await answer(call, rendering.list_parts(route.kind, listing))
        if accepted.yaml:
            # Object by object: what one call parses, nobody interrupts.
            content = await asyncio.to_thread(self._listed, call, route, listing, accepted)
            return await document(call, content, yaml=True)
        if accepted.form == "table":
            return await answer(call, await self._table(call, route, listing, accepted.version))
        return await answer(call, await _metadata(listing, accepted.version))

    async def _table(self, call: Call, route: Route, listing: Listing, version: str) -> list[bytes]:
        """A table as the parts of its JSON: rows are made and encoded in turns."""
        now = self._registry.clock.now()
        carried = include(call)
        whole = table(
            route.kind, (), now, metadata=rendering.list_metadata(listing), version=version
        )
        del whole["rows"]

        def rows(items: Sequence[Cached]) -> bytes:
            some = table(
                route.kind,
                [item.object for item in items],
                now,
                include_object=carried,
                headers=False,
                version=version,
            )
            return orjson.dumps(some["rows"])

        return await _in_parts(whole, b"rows", listing.items, rows)

    def _listed(self, call: Call, route: Route, listing: Listing, accepted: Accepted) -> Object:
        if accepted.form == "table":
            return table(
                route.kind,
                [item.object for item in listing.items],
                self._registry.clock.now(),
                include_object=include(call),
                metadata=rendering.list_metadata(listing),
                version=accepted.version,
            )
        if accepted.form == "metadata":
            items = [rendering.metadata_of(item, accepted.version) for item in listing.items]
            return {**rendering.metadata_list(listing, accepted.version), "items": items}
        return {
            "kind": route.kind.list_kind,
            "apiVersion": route.kind.api_version,
            "metadata": rendering.list_metadata(listing),
            "items": [orjson.loads(item.raw) for item in listing.items],
        }

    async def _create(self, call: Call, route: Route) -> web.StreamResponse:
        accepted = negotiation.accept(call.header("Accept"))
        obj = await call.decoded()
        if not isinstance(obj, dict):
            raise errors.bad_request("the object provided is not a JSON object")
        options = write_options(call)
        if route.kind is kinds.BINDING:
            await self._registry.bind(obj, route.namespace, meta.name(obj), options)
            return await document(call, _success(route, 201), 201)
        if route.subresource:
            return await self._create_below(call, route, obj, options)
        made = await self._registry.create(route.kind, obj, route.namespace, options)
        return await self._one(call, route, made, accepted, 201)

    async def _create_below(
        self, call: Call, route: Route, obj: Object, options: WriteOptions
    ) -> web.StreamResponse:
        if route.subresource == "binding":
            await self._registry.bind(obj, route.namespace, route.name, options)
        elif route.subresource == "eviction":
            await self._registry.evict(obj, route.namespace, route.name, options)
        elif route.subresource == "token":
            access = self._registry.access
            asked = Asked(
                kinds.SERVICE_ACCOUNT, "CREATE", obj, None, call.user, "token", options.dry_run,
                route.name, route.namespace, ("authentication.k8s.io/v1", "TokenRequest"),
            )  # fmt: skip
            obj = await self._registry.admit(asked, call.warnings, call.leave) or obj
            made = token_requests.answer(obj, route.namespace, route.name, call.user, access)
            return await document(call, made, 201)
        return await document(call, _success(route, 201), 201)

    async def _update(self, call: Call, route: Route) -> web.StreamResponse:
        accepted = negotiation.accept(call.header("Accept"))
        obj = await call.decoded()
        if not isinstance(obj, dict):
            raise errors.bad_request("the object provided is not a JSON object")
        done = await self._registry.update(
            route.kind, obj, route.namespace, route.name, write_options(call), route.subresource
        )
        return await self._one(call, route, done, accepted)

    async def _patch(self, call: Call, route: Route) -> web.StreamResponse:
        accepted = negotiation.accept(call.header("Accept"))
        type_, patch = await call.patch()
        options = write_options(call, applies=type_ == "apply")
        done, made = await patching.run(
            self._registry,
            route.kind,
            route.name,
            route.namespace,
            type_,
            patch,
            options,
            route.subresource,
        )
        return await self._one(call, route, done, accepted, 201 if made else 200)

    async def _delete(self, call: Call, route: Route) -> web.StreamResponse:
        options = await self._delete_options(call)
        left, gone = await self._registry.delete(route.kind, route.name, route.namespace, options)
        if not gone or route.kind is kinds.POD:
            return await answer(call, left.raw + b"\n")
        return await document(call, _success(route, 200, meta.uid(left.object)))

    async def _delete_collection(self, call: Call, route: Route) -> web.StreamResponse:
        options = await self._delete_options(call)
        option_faults.check_list(call.query)
        listing = await self._registry.delete_collection(query_of(call, route), options)
        return await answer(call, rendering.list_parts(route.kind, listing))

    async def _delete_options(self, call: Call) -> DeleteOptions:
        content = await call.body()
        body: Object = {}
        if content:
            body = negotiation.body(content, call.header("Content-Type")) or {}
            if not isinstance(body, dict) or body.get("kind", "DeleteOptions") != "DeleteOptions":
                raise errors.bad_request("the body of a delete must be DeleteOptions")
        if "gracePeriodSeconds" in call.query:
            body["gracePeriodSeconds"] = call.number("gracePeriodSeconds")
        if call.query.get("propagationPolicy"):
            body["propagationPolicy"] = call.query["propagationPolicy"]
        if "orphanDependents" in call.query:
            body["orphanDependents"] = call.flag("orphanDependents")
        dry_run = call.query.get("dryRun", "")
        option_faults.check_delete(body, dry_run)
        options = DeleteOptions.of(body, dry_run == "All", call.user)
        return replace(options, warnings=call.warnings, leave=call.leave)


async def _metadata(listing: Listing, version: str) -> list[bytes]:
    """A PartialObjectMetadataList as the parts of its JSON."""

    def items(some: Sequence[Cached]) -> bytes:
        return orjson.dumps([rendering.metadata_of(item, version) for item in some])

    return await _in_parts(
        rendering.metadata_list(listing, version), b"items", listing.items, items
    )


async def _in_parts(
    whole: Object,
    field: bytes,
    items: Sequence[Cached],
    encoded: Callable[[Sequence[Cached]], bytes],
) -> list[bytes]:
    """The JSON of `whole` with one more field, whose elements are made and encoded in turns.
    `encoded` gives the array of some of them."""
    parts = [orjson.dumps(whole)[:-1], b',"%b":[' % field]
    async for some in in_turns(items, AT_ONCE):
        parts += (encoded(some)[1:-1], b",")
    if items:
        parts.pop()
    return [*parts, b"]}\n"]


def _allowed(verb: str, route: Route) -> bool:
    if not route.subresource:
        return verb in route.kind.verbs
    if route.subresource in ("binding", "eviction", "token"):
        return verb == "create"
    if route.subresource == "finalize":
        return verb == "update"
    return route.subresource not in _STREAMS and verb in ("get", "update", "patch")


def query_of(call: Call, route: Route) -> Query:
    """Raises `ApiError` 400."""
    query = call.query
    limit = call.number("limit") or 0
    fields = query.get("fieldSelector", "")
    if route.name:
        fields = f"metadata.name={route.name}" + (f",{fields}" if fields else "")
    return Query(
        route.kind,
        route.namespace or None,
        labels=query.get("labelSelector", ""),
        fields=fields,
        resource_version=query.get("resourceVersion", ""),
        match=cast(Match, query.get("resourceVersionMatch", "")),
        limit=max(0, limit),
        continue_token=query.get("continue", ""),
    )


def write_options(call: Call, *, applies: bool = False) -> WriteOptions:
    """Raises `ApiError` 422."""
    option_faults.check_write(call.verb, call.query, applies=applies)
    validation = call.query.get("fieldValidation") or "Warn"
    manager = call.query.get("fieldManager") or call.header("User-Agent").partition("/")[0]
    return WriteOptions(
        dry_run=call.query.get("dryRun") == "All",
        field_manager=manager or "unknown",
        field_validation=cast(FieldValidation, validation),
        force=call.flag("force"),
        warnings=call.warnings,
        user=call.user,
        long=(call.request.content_length or LONG_BYTES) >= LONG_BYTES,
        duplicates=call.twice,
        leave=call.leave,
    )


def include(call: Call) -> Include:
    """What each row of a table carries. Raises `ApiError` 400."""
    value = call.query.get("includeObject") or "Metadata"
    if value not in ("None", "Metadata", "Object"):
        raise errors.bad_request(f"includeObject: {value!r} is none of None, Metadata, Object")
    return cast(Include, value)


def _success(route: Route, code: int, uid: str = "") -> Object:
    details = {"name": route.name, "group": route.kind.group, "kind": route.kind.plural}
    if uid:
        details["uid"] = uid
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
        "code": code,
    }
