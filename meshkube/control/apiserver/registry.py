"""The API over the store: every operation on every kind, for HTTP and in-process clients alike.

Decisions are synchronous functions in the files beside this one; here they meet the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from meshkube.api import conversion, errors, kinds, meta
from meshkube.api.apply import apply
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import validate_binding
from meshkube.clock import Clock
from meshkube.control.apiserver import (
    bootstrap,
    bootstrap_policy,
    eviction,
    rules,
    service_accounts,
    subresources,
)
from meshkube.control.apiserver.access import Access
from meshkube.control.apiserver.admission import AWAY_SECONDS
from meshkube.control.apiserver.admitting import Admitting
from meshkube.control.apiserver.beside import Beside
from meshkube.control.apiserver.cache import Cached, Change, Selection
from meshkube.control.apiserver.catalog import Catalog
from meshkube.control.apiserver.claiming import keep_claims
from meshkube.control.apiserver.conversions import Conversions
from meshkube.control.apiserver.definition_keeper import keep_definitions
from meshkube.control.apiserver.encoding import object_key, resource_prefix
from meshkube.control.apiserver.expiry import sweep_events
from meshkube.control.apiserver.feed import Feed
from meshkube.control.apiserver.levels import Levels
from meshkube.control.apiserver.matching import Asked
from meshkube.control.apiserver.metering import Metering
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.reading import Listing, Query, Reader, shown
from meshkube.control.apiserver.services import ServiceAllocator
from meshkube.control.apiserver.turns import aside
from meshkube.control.apiserver.watching import Watcher
from meshkube.control.apiserver.webhook_client import WebhookClient
from meshkube.control.apiserver.writing import Writer
from meshkube.control.auth.tokens import TokenIssuer, temporary_issuer
from meshkube.store import Store

APPLY_TRIES = 5
DELETED_AT_ONCE = 16
"""Objects of a collection: their writes share a commit of the store."""
ACCOUNT_TRIES = 20
ACCOUNT_SECONDS = 0.05
_BODIES = {"binding": ("v1", "Binding"), "eviction": ("policy/v1", "Eviction")}
"""`apiVersion` and `kind` of what is sent to sub-resources of pods."""
Warnings = list[str]
Patch = Callable[[Object], Object]
"""From a document (shared) to a patched copy."""


class Registry:
    """Also the part `registry`: it keeps the watch caches moving, so it runs before all else.

    `api_address` is where the API is reached on this host: it becomes the endpoint of the Service
    default/kubernetes, unless others may serve it too (not `alone`): see `control.server_entry`.
    Without an `issuer`, tokens hold as long as this process.
    """

    name = "registry"

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        service_cidr: str = "10.43.0.0/16",
        cluster_dns: str = "10.43.0.10",
        node_ports: range = range(30000, 32768),
        api_address: tuple[str, int] | None = None,
        alone: bool = True,
        issuer: TokenIssuer | None = None,
        away_seconds: int = AWAY_SECONDS,
    ) -> None:
        self.clock = clock
        self._store = store
        self.catalog = Catalog()
        self.levels = Levels()
        """Places of the writes under way, over HTTP and in this process."""
        self.feed = Feed(store, self.catalog, clock)
        self.services = ServiceAllocator(service_cidr, node_ports)
        self._settings = bootstrap.Settings(service_cidr, cluster_dns, api_address, alone)
        lookup = _Lookup(self.feed)
        self.webhooks = WebhookClient(lookup)
        self._conversions = Conversions(self.webhooks)
        self._reader = Reader(store, self.feed, self._conversions)
        self.access = Access(self.feed, lookup, issuer or temporary_issuer(), clock)
        beside = Beside(self.feed, lookup, self.services, clock)
        self.metering: Metering | None = None
        """Who answers for the kinds of `metrics.k8s.io`."""
        self.admitting = Admitting(lookup, self.webhooks)
        self._writer = Writer(
            store,
            self.feed,
            lookup,
            beside,
            self.admitting,
            self._conversions,
            clock,
            self.access.guard,
            away_seconds,
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Keeps the caches; makes what every cluster has. See `parts.Part`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._conversions.group = group
                group.create_task(self.feed.run(self._loaded))
                await self.feed.synced.wait()
                await bootstrap.ensure(self, self._settings)
                await bootstrap_policy.ensure(self)
                self.access.open()
                group.create_task(sweep_events(self))
                group.create_task(keep_claims(self._store, self.feed, self.clock))
                group.create_task(keep_definitions(self))
                ready()
        finally:
            self._conversions.group = None
            await self.webhooks.aclose()

    async def _shown(self, kind: Kind, found: Cached, subresource: str = "") -> Cached:
        """Raises `ApiError` 500 where a webhook does not convert."""
        return shown(kind, await self._conversions.one(kind, found), subresource)

    async def _loaded(self) -> None:
        cache = self.feed.cache(kinds.SERVICE)
        self.services.rebuild(item.object for item in cache.items.values())
        cache.watchers[id(self.services)] = _Follower(self.services)
        await self.access.load()

    async def get(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        subresource: str = "",
        resource_version: str = "",
    ) -> Cached:
        """Not older than `resource_version`; without one the newest, with 0 what is at hand.
        Raises `ApiError` 400, 404 or 504."""
        if kind in kinds.MEASURED:
            return await self._measurer().get(kind, name, namespace)
        found = await self._reader.get(kind, namespace, name, resource_version)
        return await self._shown(kind, found, subresource)

    async def list(self, query: Query) -> Listing:
        """Raises `ApiError` 400, 410 or 504."""
        if query.kind in kinds.MEASURED:
            return await self._measurer().list(query)
        return await self._reader.list(query)

    def _measurer(self) -> Metering:
        """Raises `ApiError` 503."""
        if self.metering is None:
            raise errors.unavailable("this server does not measure: its part `metrics` is away")
        return self.metering

    async def watch(self, query: Query, *, initial: bool = False) -> Watcher:
        """Raises `ApiError` 400, 410 or 504."""
        return await self._reader.watch(query, initial=initial)

    async def create(
        self, kind: Kind, obj: Object, namespace: str, options: WriteOptions
    ) -> Cached:
        """`obj` is private to the request. Raises `ApiError`."""
        kind = self.catalog.current(kind)
        check_type(kind, obj)
        _check_place(kind, obj, namespace)
        if kind.definition is not None and kind.definition.deleting:
            why = "create not allowed while custom resource definition is terminating"
            raise errors.method_not_allowed(why)
        version = meta.resource_version(obj)
        versioned = version not in ("", meta.NO_VERSION) and not options.dry_run
        if versioned:
            # What else is wrong with it is told first, and a dry run need not be new.
            options = replace(options, dry_run=True)
        await aside(options.long, rules.shape, kind, obj, options)
        if kind is kinds.POD:
            await self._account_made(obj, namespace, options.leave)
        stored, obj = kind.storage, conversion.to_stored(kind, obj)
        options.named = kind
        made = await self._writer.create(stored, obj, namespace, options)
        if versioned:
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        return await self._shown(kind, made)

    async def _account_made(self, pod: Object, namespace: str, leave: Callable[[], None]) -> None:
        """Waits a second at most where a new namespace has no default service account yet."""
        lookup = self.access.lookup
        for _ in range(ACCOUNT_TRIES):
            if not service_accounts.expected(pod, namespace, lookup.find, lookup.all):
                return
            leave()  # who makes it may need the place
            await asyncio.sleep(ACCOUNT_SECONDS)

    async def update(
        self,
        kind: Kind,
        obj: Object,
        namespace: str,
        name: str,
        options: WriteOptions,
        subresource: str = "",
    ) -> Cached:
        """Replaces. `obj` is private to the request. Raises `ApiError`."""
        kind = self.catalog.current(kind)
        if subresource != "scale":
            check_type(kind, obj)
            await aside(options.long, rules.shape, kind, obj, options)
        _check_place(kind, obj, namespace, name)
        stored, obj = kind.storage, conversion.to_stored(kind, obj)
        options.named = kind

        def make(current: Object) -> Object:
            # Another try must start from what the client sent.
            return subresources.written(stored, meta.copy(obj), current, subresource)

        done = await self._writer.modify(
            stored, namespace, name, make, options, subresource=subresource
        )
        return await self._shown(kind, done, subresource)

    async def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        patch: Patch,
        options: WriteOptions,
        subresource: str = "",
    ) -> Cached:
        """Raises `ApiError`. `patch` may run more than once."""
        kind = self.catalog.current(kind)
        stored = kind.storage
        options.named = kind

        def make(current: Object) -> Object:
            seen = conversion.from_stored(kind, current)
            doc = patch(subresources.view(kind, seen, subresource))
            if subresource != "scale":
                check_type(kind, doc)
                rules.shape(kind, doc, options)
                _check_place(kind, doc, namespace, name)
                doc = conversion.to_stored(kind, doc)
            return subresources.written(stored, doc, current, subresource)

        done = await self._writer.modify(
            stored, namespace, name, make, options, subresource=subresource
        )
        return await self._shown(kind, done, subresource)

    async def apply(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        config: Object,
        options: WriteOptions,
        subresource: str = "",
    ) -> tuple[Cached, bool]:
        """Server-side apply: the object, and whether it was made. Raises `ApiError`."""
        kind = self.catalog.current(kind)
        check_type(kind, config)
        config["metadata"].setdefault("name", name)
        _check_place(kind, config, namespace, name)
        options.applied = True
        await aside(options.long, rules.shape, kind, config, options)
        stored, config = kind.storage, conversion.to_stored(kind, config)
        options.named = kind

        def make(current: Object | None) -> Object:
            return apply(
                current,
                config,
                options.field_manager,
                options.force,
                rules.schema_for(kind),
                subresource,
                self.clock.now(),
            )

        for _ in range(APPLY_TRIES):
            try:
                done = await self._writer.modify(
                    stored, namespace, name, make, options, subresource=subresource
                )
                return await self._shown(kind, done, subresource), False
            except errors.ApiError as error:
                if error.code != 404 or subresource:
                    raise
            try:
                # The right to patch is not that to create.
                self.access.may_create(kind, namespace, name, options.user)
                new = await aside(options.long, make, None)
                made = await self._writer.create(stored, new, namespace, options)
                return await self._shown(kind, made), True
            except errors.ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
        raise errors.conflict(kind.group, kind.plural, name)

    async def delete(
        self, kind: Kind, name: str, namespace: str, options: DeleteOptions
    ) -> tuple[Cached, bool]:
        """The object as it is left, and whether it is gone. Raises `ApiError`."""
        if kind.stored is not None:
            options = replace(options, named=kind)
        left, gone = await self._writer.delete(kind.storage, namespace, name, options)
        return await self._shown(kind, left), gone

    async def delete_collection(self, query: Query, options: DeleteOptions) -> Listing:
        """Deletes what a list finds, several at a time, and returns that. Raises `ApiError`: the
        first there was, when the others are done."""
        listing = await self.list(query)
        left = iter(listing.items)
        failed: list[errors.ApiError] = []

        async def worker() -> None:
            for item in left:
                name, namespace = meta.name(item.object), meta.namespace(item.object)
                try:
                    await self.delete(query.kind, name, namespace, options)
                except errors.ApiError as error:
                    if error.code != 404:
                        failed.append(error)
                        return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(DELETED_AT_ONCE, len(listing.items))):
                group.create_task(worker())
        if failed:
            raise failed[0]
        return listing

    async def admit(
        self, asked: Asked, warnings: Warnings, leave: Callable[[], None]
    ) -> Object | None:
        """Asks policies and webhooks about what is no write of a stored object; gives the body as
        they leave it. Raises `ApiError`."""
        obj = await self.admitting.mutated(asked, dict, warnings, leave)
        await self.admitting.judge(asked._replace(obj=obj), warnings, leave)
        return obj

    async def _admit_below(
        self, body: Object, subresource: str, namespace: str, name: str, options: WriteOptions
    ) -> Object:
        """The same of a body that is sent to a sub-resource of a pod."""
        asked = Asked(
            kinds.POD, "CREATE", body, None, options.user, subresource, options.dry_run, name,
            namespace, _BODIES[subresource], options.shown("CreateOptions"),
        )  # fmt: skip
        return await self.admit(asked, options.warnings, options.leave) or body

    async def bind(self, binding: Object, namespace: str, name: str, options: WriteOptions) -> None:
        """Gives a pod its node. Raises `ApiError` 404 or 409."""
        binding = await self._admit_below(binding, "binding", namespace, name, options)
        asked = meta.uid(binding)
        rules.refuse(kinds.POD, binding, validate_binding(binding))

        def make(pod: Object) -> Object:
            if asked and asked != meta.uid(pod):
                raise errors.conflict("", "pods", name, "the pod was replaced by another one")
            return subresources.bound(pod, binding, meta.timestamp(self.clock.now()))

        await self._writer.modify(kinds.POD, namespace, name, make, options, subresource="binding")

    async def evict(self, body: Object, namespace: str, name: str, options: WriteOptions) -> None:
        """Deletes a pod where its disruption budget allows it. Raises `ApiError` 404, 429."""
        _check_place(kinds.POD, body, namespace, name)
        body = await self._admit_below(body, "eviction", namespace, name, options)
        delete = DeleteOptions.of(body.get("deleteOptions") or {}, options.dry_run, options.user)
        delete = replace(delete, fence=options.fence)
        pod = (await self.get(kinds.POD, name, namespace)).object
        budgets = self.access.lookup.inside(kinds.POD_DISRUPTION_BUDGET, namespace)
        budget = eviction.budget_of(pod, budgets)
        own = WriteOptions(dry_run=delete.dry_run, field_manager="meshkube", fence=options.fence)
        now = self.clock.now()
        if budget is not None:
            await self._writer.modify(
                kinds.POD_DISRUPTION_BUDGET,
                namespace,
                meta.name(budget),
                lambda current: eviction.spent(current, pod, now),
                own,
                subresource="status",
            )
        if not meta.deleting(pod):
            await self._writer.modify(
                kinds.POD,
                namespace,
                name,
                lambda current: eviction.targeted(current, now),
                own,
                subresource="status",
            )
        await self.delete(kinds.POD, name, namespace, delete)


class _Lookup:
    """`admission.Lookup` over the caches."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        found = self._feed.cache(kind).items.get(object_key(kind, namespace, name))
        return found.object if found is not None else None

    def kind(self, api_version: str, kind: str) -> Kind | None:
        return self._feed.catalog.by_kind(api_version, kind)

    def all(self, kind: Kind) -> Iterable[Object]:
        return [item.object for item in self._feed.cache(kind).items.values()]

    def inside(self, kind: Kind, namespace: str) -> Iterable[Object]:
        cache = self._feed.cache(kind)
        if not cache.items:
            return ()
        selection = Selection(f"{resource_prefix(kind)}{namespace}/")
        return [item.object for item in cache.select(selection)]


class _Follower:
    """Tells the allocator what is stored (`cache.Sink`)."""

    def __init__(self, services: ServiceAllocator) -> None:
        self._services = services

    def tell(self, change: Change) -> None:
        old, new = change.old, change.new
        self._services.changed(old.object if old else None, new.object if new else None)

    def end(self) -> None:
        """The next load rebuilds."""


def check_type(kind: Kind, obj: Object) -> None:
    """Raises `ApiError` 400 where an object is not of the kind of its path."""
    if not isinstance(obj, dict):
        raise errors.bad_request("the object provided is not a JSON object")
    if not isinstance(obj.setdefault("metadata", {}), dict):
        raise errors.bad_request("metadata: not a JSON object")
    given = str(obj.setdefault("apiVersion", kind.api_version))
    if given != kind.api_version:
        raise errors.bad_request(
            f"the API version in the data ({given}) does not match the expected API version "
            f"({kind.api_version})"
        )
    given = str(obj.setdefault("kind", kind.kind))
    if given != kind.kind:
        raise errors.bad_request(
            f'{given} in version "{kind.version}" cannot be handled as a {kind.kind}: the kind in '
            f"the data does not match the expected kind ({kind.kind})"
        )


def _check_place(kind: Kind, obj: Object, namespace: str, name: str = "") -> None:
    given = meta.namespace(obj)
    if kind.namespaced and given and given != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    given = meta.name(obj)
    if name and given and given != name:
        raise errors.bad_request(
            f"the name of the object ({given}) does not match the name on the URL ({name})"
        )
