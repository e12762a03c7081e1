"""Reads: get, list and watch from the caches, and pages of the past from the store."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from meshkube.api import conversion, errors
from meshkube.api.kinds import Kind
from meshkube.api.selectors import (
    FieldSelector,
    check_fields,
    field_values,
    parse_fields,
    parse_labels,
)
from meshkube.control.apiserver import faults, subresources
from meshkube.control.apiserver.cache import Cached, Change, Notice, Selection, cached
from meshkube.control.apiserver.conversions import Conversions, converts
from meshkube.control.apiserver.encoding import object_key, resource_prefix
from meshkube.control.apiserver.feed import Feed
from meshkube.control.apiserver.turns import aside, chosen, in_turns
from meshkube.control.apiserver.watching import Watcher
from meshkube.store import Compacted, Store

Match = Literal["", "NotOlderThan", "Exact"]
LONG_SELECTOR = 16 * 1024
"""Characters from which reading a selector takes so long that others go on meanwhile."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects in key order, all as of `revision`."""

    items: list[Cached]
    revision: int
    continue_token: str = ""
    remaining: int | None = None
    """Objects after this page; None where that is not known or there are none."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a list or watch asks for. `namespace` None: all of them."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    resource_version: str = ""
    match: Match = ""
    limit: int = 0
    continue_token: str = ""

    def selection(self) -> Selection:
        """Raises `ApiError` 400 for selectors that cannot be read."""
        prefix = resource_prefix(self.kind.storage)
        if self.namespace:
            prefix += self.namespace + "/"
        labels = parse_labels(self.labels) if self.labels else None
        fields = parse_fields(self.fields) if self.fields else None
        if fields is not None:
            check_fields(self.kind, fields)
        if labels is not None and labels.empty:
            labels = None
        if self.kind is not self.kind.storage:
            return Selection(prefix, labels, fields, self._only(fields), self._values)
        return Selection(prefix, labels, fields, self._only(fields))

    def _values(self, item: Cached) -> dict[str, str]:
        return field_values(self.kind, shown(self.kind, item).object)

    def _only(self, fields: FieldSelector | None) -> str:
        """The key of the one object that a selector such as `metadata.name=web` can match."""
        if fields is None or (self.kind.namespaced and not self.namespace):
            return ""
        name = fields.exact("metadata.name")
        return object_key(self.kind.storage, self.namespace or "", name) if name else ""


class Reader:
    """Reads of stored kinds."""

    def __init__(self, store: Store, feed: Feed, conversions: Conversions) -> None:
        self._store = store
        self._feed = feed
        self._conversions = conversions

    async def get(self, kind: Kind, namespace: str, name: str, version: str = "") -> Cached:
        """Raises `ApiError` 400, 404 or 504."""
        await self._wait(version)
        stored = kind.storage
        found = self._feed.cache(stored).items.get(object_key(stored, namespace, name))
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    async def list(self, query: Query) -> Listing:
        """Raises `ApiError` 400, 410 or 504."""
        selection = await _selection(query)
        if query.continue_token:
            return await self._next_page(query, selection)
        exact = query.match == "Exact" and query.resource_version not in ("", "0")
        await self._wait(query.resource_version)
        revision = self._feed.revision
        if exact and int(query.resource_version) != revision:
            return await self._past(query, selection, int(query.resource_version), "")
        found = self._feed.cache(query.kind.storage).select(selection)
        return await self._page(query, selection, found, revision)

    async def _page(
        self,
        query: Query,
        selection: Selection,
        found: Sequence[Cached],
        revision: int,
        more: int = 0,
    ) -> Listing:
        """Raises `ApiError` 500 where a webhook does not convert."""
        items = await self._conversions.all(query.kind, found)
        return await _page(query, selection, items, revision, more)

    async def _wait(self, asked: str) -> None:
        version = parse_version(asked)
        if version is None:
            await self._feed.fresh()
        elif version:
            await self._feed.loaded()
            await self._feed.reach(version)
        else:
            await self._feed.loaded()

    async def _next_page(self, query: Query, selection: Selection) -> Listing:
        revision, start = decode_continue(query.continue_token, selection.prefix)
        if query.resource_version not in ("", "0"):
            raise errors.bad_request(
                "specifying resource version is not allowed when using continue"
            )
        if revision < 0:
            await self._feed.fresh()
            found = self._feed.cache(query.kind.storage).select(selection, start)
            revision = self._feed.revision
            return await self._page(query, selection, found, revision)
        return await self._past(query, selection, revision, start)

    async def _past(self, query: Query, selection: Selection, revision: int, start: str) -> Listing:
        """A page as of a past revision, from the store. A selector scans on until it is full."""
        found: list[Cached] = []
        bite = query.limit if selection.everything else 0
        try:
            with faults.told():
                result = await self._store.range(
                    selection.prefix, start_after=start, limit=bite, revision=revision
                )
        except errors.ApiError as error:
            if not isinstance(error.__cause__, Compacted):
                raise
            if start:
                raise _expired(encode_continue(-1, start, selection.prefix)) from None
            raise errors.gone(
                f"The resourceVersion for the provided list is too old: {revision}"
            ) from None
        kind = query.kind.storage
        found = [cached(kind, kv) for kv in result.kvs]
        return await self._page(query, selection, found, revision, result.remaining)

    async def watch(self, query: Query, *, initial: bool = False) -> Watcher:
        """Starts to watch after `query.resource_version`; without one, or with `initial`, the
        objects there are come first, as ADDED. Raises `ApiError` 400, 410 or 504."""
        selection = await _selection(query)
        version = parse_version(query.resource_version)
        await self._wait(query.resource_version)
        cache = self._feed.cache(query.kind.storage)
        view = None
        if cache.kind is not query.kind:
            view = functools.partial(shown, query.kind)
        # What there is, or was, at the moment from which the watcher collects.
        changes = None if initial or not version else cache.since(version)
        items = cache.select(selection) if changes is None else []
        watcher = self._conversions.watcher(cache, selection, view, query.kind)
        try:
            if changes is None:
                items = await self._conversions.all(query.kind, items)
                await watcher.start_with(await _state(items, selection))
            else:
                if converts(query.kind):
                    changes = [await self._conversions.change(query.kind, one) for one in changes]
                await watcher.start_with(await _told(changes, selection))
        except BaseException:
            watcher.close()
            raise
        return watcher


async def _selection(query: Query) -> Selection:
    return await aside(len(query.labels) + len(query.fields) > LONG_SELECTOR, query.selection)


def parse_version(text: str) -> int | None:
    """A resourceVersion; None for none. Raises `ApiError` 400."""
    if not text:
        return None
    if not text.isdigit():
        why = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise errors.bad_request(f"resourceVersion: {why}")
    return int(text)


async def _state(items: list[Cached], selection: Selection) -> list[Notice]:
    if not selection.everything:
        items = await chosen(items, selection.matches)
    return [Notice("ADDED", item) for item in items]


async def _told(changes: list[Change], selection: Selection) -> list[Notice]:
    notices: list[Notice] = []
    async for some in in_turns(changes):
        told = map(selection.notice, some)
        notices += [notice for notice in told if notice is not None]
    return notices


async def _page(
    query: Query, selection: Selection, found: list[Cached], revision: int, more: int = 0
) -> Listing:
    """Cuts `found` to the limit. `more`: how many follow `found` in the store."""
    if not selection.everything:
        found = await chosen(found, selection.matches)
    limit = query.limit
    page, token, remaining = found, "", None
    if limit and (len(found) > limit or more):
        page = found[:limit]
        token = encode_continue(revision, page[-1].key, selection.prefix)
        remaining = len(found) - len(page) + more if selection.everything else None
    if query.kind.storage is not query.kind:
        page = [shown(query.kind, item) for item in page]
    return Listing(page, revision, token, remaining)


def encode_continue(revision: int, last: str, prefix: str) -> str:
    """Where the next page starts: after the key `last`, as of `revision` (-1: as it is then)."""
    token = {"v": "meta.k8s.io/v1", "rv": revision, "start": last[len(prefix) :]}
    return base64.urlsafe_b64encode(orjson.dumps(token)).decode().rstrip("=")


def decode_continue(token: str, prefix: str) -> tuple[int, str]:
    """`(revision, key to start after)`. Raises `ApiError` 400."""
    try:
        content = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if content["v"] != "meta.k8s.io/v1" or not content["start"]:
            raise ValueError("unknown version")
        return int(content["rv"]), prefix + str(content["start"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise errors.bad_request("continue key is not valid") from None


def _expired(token: str) -> errors.ApiError:
    error = errors.gone(
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter, or use the continue token in this "
        "response to retrieve the remainder of the results. Continuing with the provided token "
        "results in an inconsistent list: objects that were created, modified or deleted between "
        "the time the first chunk was returned and now may show up in the list."
    )
    error.continue_token = token
    return error


def shown(kind: Kind, found: Cached, subresource: str = "") -> Cached:
    """As a reader of this kind and sub-resource sees it."""
    if kind == found.kind and subresource != "scale":
        return found
    if subresource == "scale":
        shown = subresources.scale_of(kind, found.object)
    else:
        shown = conversion.from_stored(kind, found.object)
    return Cached(kind, found.key, found.revision, orjson.dumps(shown))
