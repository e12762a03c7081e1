"""The watch cache: every object of one resource as it stands, and the latest changes to it.

Plain data and no I/O: `feed` moves it, the registry reads it. Bytes and parsed objects are shared
by all readers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Protocol

import orjson

from meshkube.api import errors
from meshkube.api.kinds import CUSTOM_RESOURCE_DEFINITION, POD, Kind
from meshkube.api.selectors import FieldSelector, LabelSelector, field_values
from meshkube.api.types import Object
from meshkube.client.base import EventType
from meshkube.control.apiserver.encoding import resource_prefix, restamp, stamp, unstamp
from meshkube.control.apiserver.sharing import parsed
from meshkube.store import Event, KeyValue

WINDOW = 2048
"""How many past changes of one resource a watch can start from."""
_NO_LABELS: dict[str, str] = {}
_NOBODY: dict[int, Sink] = {}
_NODE = "spec.nodeName"


class Cached:
    """One object at one revision: its served bytes, and on first need its parsed form."""

    __slots__ = ("_fields", "_object", "key", "kind", "raw", "revision")

    def __init__(self, kind: Kind, key: str, revision: int, raw: bytes) -> None:
        self.kind = kind
        self.key = key
        self.revision = revision
        self.raw = raw
        self._object: Object | None = None
        self._fields: dict[str, str] | None = None

    @property
    def object(self) -> Object:
        """Shared with every reader: copy before changing."""
        if self._object is None:
            self._object = parsed(self.kind, self.raw)
        return self._object

    @property
    def metadata(self) -> Object:
        """Of the object, which is not kept in its parsed form for that."""
        obj: Object = orjson.loads(self.raw) if self._object is None else self._object
        metadata: Object = obj["metadata"]
        return metadata

    @property
    def fields(self) -> dict[str, str]:
        """What field selectors of this kind can ask for."""
        if self._fields is None:
            self._fields = dict(field_values(self.kind, self.object))
        return self._fields

    @property
    def labels(self) -> dict[str, str]:
        return self.object["metadata"].get("labels") or _NO_LABELS


class CustomCached(Cached):
    """A custom object: read by the schema as it is now, on first need, whatever it was when the
    object was stored."""

    __slots__ = ("_raw", "_stored")
    _raw: bytes | None
    _stored: bytes

    @property
    def raw(self) -> bytes:
        if self._raw is None:
            assert self.kind.definition is not None
            obj = orjson.loads(self._stored)
            self.kind.definition.read(obj)
            self._raw = orjson.dumps(obj)
        return self._raw

    @raw.setter
    def raw(self, stored: bytes) -> None:
        self._stored = stored
        self._raw = None

    @property
    def stored(self) -> KeyValue:
        """As the store has it."""
        return KeyValue(self.key, unstamp(self._stored, self.revision), 0, self.revision)

    def under(self, kind: Kind) -> CustomCached:
        """The same object as another schema reads it."""
        return CustomCached(kind, self.key, self.revision, self._stored)


class Unkept(Cached):
    """A definition: parsed for who asks and not kept so, as schemas take ten times their bytes."""

    __slots__ = ()

    @property
    def object(self) -> Object:
        parsed: Object = orjson.loads(self.raw)
        return parsed


def cached(kind: Kind, kv: KeyValue) -> Cached:
    form = Cached if kind.definition is None else CustomCached
    if kind is CUSTOM_RESOURCE_DEFINITION:
        form = Unkept
    return form(kind, kv.key, kv.mod_revision, stamp(kv.value, kv.mod_revision))


class Notice:
    """What a watcher is told: a type and an object. Its bytes are made once for all watchers."""

    __slots__ = ("_chunk", "cached", "type")

    def __init__(self, type: EventType, cached: Cached) -> None:
        self.type = type
        self.cached = cached
        self._chunk: bytes | None = None

    @property
    def chunk(self) -> bytes:
        """One line of a watch stream, as a chunk of HTTP/1.1."""
        if self._chunk is None:
            self._chunk = chunk(
                b'{"type":"%b","object":%b}\n' % (self.type.encode(), self.cached.raw)
            )
        return self._chunk


def chunk(content: bytes) -> bytes:
    """One chunk of a body in the chunked coding (RFC 9112 section 7.1); `content` is not empty."""
    return b"%x\r\n%b\r\n" % (len(content), content)


class Change:
    """One change of one object, as it looks to those who watch all, and at a selector's border."""

    __slots__ = ("_entered", "_left", "new", "old", "plain", "revision")

    def __init__(self, revision: int, old: Cached | None, new: Cached | None, last: Cached) -> None:
        self.revision = revision
        self.old = old
        self.new = new
        kind: EventType = "DELETED" if new is None else "MODIFIED" if old else "ADDED"
        self.plain = Notice(kind, last)
        self._entered: Notice | None = None
        self._left: Notice | None = None

    def seen(self, was: bool, now: bool) -> Notice | None:
        """The notice for a watcher whose selector matched the old and matches the new."""
        if was and now:
            return self.plain
        if now:
            return self._enter()
        return self._leave() if was else None

    def _enter(self) -> Notice:
        if self.plain.type == "ADDED":
            return self.plain
        if self._entered is None:
            self._entered = Notice("ADDED", self.plain.cached)
        return self._entered

    def _leave(self) -> Notice:
        if self.plain.type == "DELETED":
            return self.plain
        if self._left is None:
            old = self.old
            assert old is not None
            raw = restamp(old.raw, old.revision, self.revision)
            self._left = Notice("DELETED", Cached(old.kind, old.key, self.revision, raw))
        return self._left


class Selection:
    """Which objects of a resource a list or a watch is about."""

    __slots__ = ("by_key", "fields", "key", "labels", "prefix", "topic", "values")

    def __init__(
        self,
        prefix: str,
        labels: LabelSelector | None = None,
        fields: FieldSelector | None = None,
        key: str = "",
        values: Callable[[Cached], Mapping[str, str]] = attrgetter("fields"),
    ) -> None:
        self.prefix = prefix
        self.values = values
        """What field selectors see of an object."""
        self.key = key
        """The only object that can match, where the field selector names one."""
        self.labels = labels
        self.fields = fields
        self.by_key = bool(key) and labels is None and fields is not None and len(fields.terms) == 1
        """The key says all: whatever has it matches."""
        self.topic = key or _topic_of(fields)
        """What a change must be about to concern it, where that is known: see `ResourceCache`."""

    @property
    def everything(self) -> bool:
        """No selector: only the prefix counts."""
        return self.labels is None and self.fields is None

    def matches(self, item: Cached) -> bool:
        """By selectors alone: the prefix is known to fit."""
        if self.labels is not None and not self.labels.matches(item.labels):
            return False
        return self.fields is None or self.fields.matches(self.values(item))

    def notice(self, change: Change) -> Notice | None:
        key = change.plain.cached.key
        if key != self.key if self.key else not key.startswith(self.prefix):
            return None
        if self.by_key or self.everything:
            return change.plain
        was = change.old is not None and self.matches(change.old)
        now = change.new is not None and self.matches(change.new)
        return change.seen(was, now)


def _topic_of(fields: FieldSelector | None) -> str:
    node = fields.exact(_NODE) if fields is not None else None
    return _NODE + node if node else ""


def _node_of(item: Cached | None) -> str:
    node = (item.object.get("spec") or {}).get("nodeName") if item is not None else ""
    return _NODE + node if node else ""


class Sink(Protocol):
    """Who is told of changes, at once and in order."""

    def tell(self, change: Change) -> None: ...

    def end(self) -> None:
        """No more changes will come."""
        ...


class ResourceCache:
    """The objects of one resource in key order, a window of changes, and who watches."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.prefix = resource_prefix(kind)
        self.items: dict[str, Cached] = {}
        self.watchers: dict[int, Sink] = {}
        """Who is told of every change."""
        self.changes = 0
        """How many there were."""
        self.told = 0
        """How many events of them watchers were told."""
        self._of_topic: dict[str, dict[int, Sink]] = {}
        """Who is told of the changes of one key, or of one node's pods: of a hundred nodes that
        watch their own pods, the others need not even look at a change."""
        self._keys: list[str] = []
        self._window: deque[Change] = deque()
        self._floor = 0

    def load(self, kvs: Iterable[KeyValue], revision: int) -> None:
        """Starts over from a whole range, in key order, as of `revision`."""
        self.start_over(revision)
        self.hold(kvs)

    def start_over(self, revision: int) -> None:
        """Forgets all; what there is as of `revision` follows by `hold`."""
        self.items = {}
        self._keys = []
        self._window.clear()
        self._floor = revision

    def hold(self, kvs: Iterable[KeyValue]) -> None:
        """A piece of what a load finds: the next in key order."""
        for kv in kvs:
            self.items[kv.key] = cached(self.kind, kv)
            self._keys.append(kv.key)

    def adopt(self, kind: Kind) -> None:
        """The definition of a custom kind changed: what is here is read anew, and watches end."""
        self.kind = kind
        for key, item in self.items.items():
            if isinstance(item, CustomCached):
                self.items[key] = item.under(kind)
        self.end()

    def stored(self) -> dict[str, KeyValue]:
        """Everything as the store has it."""
        items = self.items.items()
        return {key: item.stored for key, item in items if isinstance(item, CustomCached)}

    def add(self, watcher: Sink, topic: str = "") -> None:
        """Tells it of every change, or of those of a selection's topic."""
        told = self._of_topic.setdefault(topic, {}) if topic else self.watchers
        told[id(watcher)] = watcher

    def remove(self, watcher: Sink, topic: str = "") -> None:
        """The end of `add`; nothing where that has ended."""
        if not topic:
            self.watchers.pop(id(watcher), None)
        elif topic in self._of_topic:
            told = self._of_topic[topic]
            told.pop(id(watcher), None)
            if not told:
                del self._of_topic[topic]

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self.watchers) + sum(map(len, self._of_topic.values()))

    def end(self) -> None:
        """Ends every watch."""
        for told in (self.watchers, *self._of_topic.values()):
            for watcher in tuple(told.values()):
                watcher.end()

    def apply(self, event: Event) -> None:
        """Takes one change of the store, and tells the watchers."""
        kv = event.kv
        old = self.items.get(kv.key)
        last = cached(self.kind, kv)
        if event.deleted:
            if old is None:
                return
            del self.items[kv.key]
            del self._keys[bisect_left(self._keys, kv.key)]
            change = Change(kv.mod_revision, old, None, last)
        else:
            self.items[kv.key] = last
            if old is None:
                insort(self._keys, kv.key)
            change = Change(kv.mod_revision, old, last, last)
        self._remember(change)
        for watcher in tuple(self.watchers.values()):
            watcher.tell(change)
        for topic in self._topics(kv.key, change):
            for watcher in tuple(self._of_topic.get(topic, _NOBODY).values()):
                watcher.tell(change)

    def _topics(self, key: str, change: Change) -> Iterable[str]:
        if self.kind is not POD or not self._of_topic:
            return (key,)
        # As it was, too: whoever watches that node is told that the pod is there no more.
        return {key, _node_of(change.old), _node_of(change.new)}

    def _remember(self, change: Change) -> None:
        self.changes += 1
        if len(self._window) >= WINDOW:
            self._floor = self._window.popleft().revision
        self._window.append(change)

    def select(self, selection: Selection, start_after: str = "") -> list[Cached]:
        """What may match, by its key: in order, after a key."""
        if selection.key:
            found = self.items.get(selection.key)
            return [found] if found is not None and selection.key > start_after else []
        prefix = selection.prefix
        low = bisect_left(self._keys, prefix)
        high = bisect_left(self._keys, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        if start_after:
            low = max(low, bisect_left(self._keys, start_after + "\0"))
        items = self.items
        return [items[key] for key in self._keys[low:high]]

    def since(self, revision: int) -> list[Change]:
        """The changes after a revision. Raises `ApiError` 410 where they are no longer kept."""
        if revision < self._floor:
            raise errors.gone(f"too old resource version: {revision} ({self._floor})")
        changes: list[Change] = []
        for change in reversed(self._window):
            if change.revision <= revision:
                break
            changes.append(change)
        changes.reverse()
        return changes
