"""Custom objects in another version than they are kept in, where a webhook has to convert them.

Definitions whose versions differ in `apiVersion` alone need none of this: everything here gives
back what it was given. Source: Kubernetes documentation, "Versions in CustomResourceDefinitions".
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from meshkube.api import errors
from meshkube.api.custom import conversion_review
from meshkube.api.custom.definition import Definition
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.cache import Cached, Change, ResourceCache, Selection
from meshkube.control.apiserver.watching import View, Watcher
from meshkube.control.apiserver.webhook_client import CallFailed, WebhookClient

SECONDS = 30
"""What a webhook has for one review."""
AT_ONCE = 256
"""Objects in one review."""
KEPT = 8192
"""Converted objects that are remembered, of one definition."""
_Forms = OrderedDict[tuple[str, str, int], Cached]


class Conversions:
    """Remembers what webhooks made of which revision of an object."""

    def __init__(self, client: WebhookClient) -> None:
        self._client = client
        self._forms: WeakKeyDictionary[Definition, _Forms] = WeakKeyDictionary()
        self.group: asyncio.TaskGroup | None = None
        """Of whoever runs: watches convert in tasks of it."""

    async def one(self, kind: Kind, item: Cached) -> Cached:
        """An object as a kind of its own definition. Raises `ApiError` 500."""
        return item if not _needed(kind, item.object) else (await self.all(kind, [item]))[0]

    async def all(self, kind: Kind, items: Sequence[Cached]) -> list[Cached]:
        """Objects as one kind, in their order. Raises `ApiError` 500."""
        if not converts(kind):
            return list(items)
        assert kind.definition is not None
        forms = self._forms.setdefault(kind.definition, OrderedDict())
        missing = [
            item
            for item in items
            if _needed(kind, item.object) and (kind.version, item.key, item.revision) not in forms
        ]
        found: dict[tuple[str, int], Cached] = {}
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            made = await self._converted(kind, [item.object for item in some])
            for item, obj in zip(some, made, strict=True):
                done = Cached(kind, item.key, item.revision, orjson.dumps(obj))
                found[item.key, item.revision] = done
                forms[kind.version, item.key, item.revision] = done
        shown = []
        for item in items:
            done = found.get((item.key, item.revision)) or forms.get(
                (kind.version, item.key, item.revision), item
            )
            shown.append(done if _needed(kind, item.object) else item)
        while len(forms) > KEPT:
            forms.popitem(last=False)
        return shown

    async def kept(self, kind: Kind, obj: Object) -> Object:
        """An object in the form of the stored `kind`, whatever version it is written in. Raises
        `ApiError` 500."""
        return (await self._converted(kind, [obj]))[0] if _needed(kind, obj) else obj

    async def _converted(self, kind: Kind, objects: list[Object]) -> list[Object]:
        definition = kind.definition
        assert definition is not None
        assert definition.webhook is not None
        version = conversion_review.version_of(definition.webhook)
        uid = str(uuid.uuid4())
        body = conversion_review.review(uid, version, kind.api_version, objects)
        about = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.kind} failed"
        try:
            where = definition.webhook.get("clientConfig") or {}
            answer = await self._client.ask(where, body, SECONDS)
            made = conversion_review.converted(answer, uid, kind.api_version, objects)
        except (CallFailed, conversion_review.BadConversion) as error:
            raise errors.internal(f"{about}: {error}") from None
        for obj in made:
            definition.settle(obj)
        return made

    def watcher(
        self, cache: ResourceCache, selection: Selection, view: View | None, kind: Kind
    ) -> Watcher:
        """A watcher that is told of objects as one kind."""
        if not converts(kind) or self.group is None:
            return Watcher(cache, selection, view)
        return _Converting(cache, selection, view, kind, self, self.group.create_task)

    async def change(self, kind: Kind, change: Change) -> Change:
        """As it looks in the form of a kind. Raises `ApiError` 500."""
        sides = [one for one in (change.old, change.plain.cached) if one is not None]
        *old, last = await self.all(kind, sides)
        new = last if change.new is not None else None
        return Change(change.revision, old[0] if old else None, new, last)


def converts(kind: Kind) -> bool:
    return kind.definition is not None and kind.definition.webhook is not None


def _needed(kind: Kind, obj: Object) -> bool:
    return converts(kind) and obj.get("apiVersion") != kind.api_version


class _Converting(Watcher):
    """Tells of each change once it is converted, in order. Where that fails, the watch ends: its
    client lists anew, and is told why that fails too."""

    def __init__(
        self, cache: ResourceCache, selection: Selection, view: View | None, kind: Kind,
        conversions: Conversions,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:  # fmt: skip
        super().__init__(cache, selection, view)
        self._kind = kind
        self._conversions = conversions
        self._spawn = spawn
        self._due: list[Change] = []

    def tell(self, change: Change) -> None:
        self._due.append(change)
        if len(self._due) == 1:
            self._spawn(self._convert())

    async def _convert(self) -> None:
        while self._due and not self.ended:
            try:
                change = await self._conversions.change(self._kind, self._due[0])
            except errors.ApiError:
                self.end()
                return
            if not self.ended:
                super().tell(change)
            self._due.pop(0)
