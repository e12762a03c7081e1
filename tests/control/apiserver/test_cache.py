"""The watch cache: what watchers are told, and from where a watch may start."""

from __future__ import annotations

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.selectors import parse_fields, parse_labels
from meshkube.control.apiserver import cache as caching
from meshkube.control.apiserver.cache import Change, ResourceCache, Selection
from meshkube.control.apiserver.encoding import encode, object_key
from meshkube.store import Event, KeyValue

EVERYTHING = Selection("/registry/core/pods/")


class Script:
    """Writes pods as a store would, and collects what one watcher with a selection is told."""

    def __init__(self, selection: Selection = EVERYTHING) -> None:
        self.cache = ResourceCache(kinds.POD)
        self.told: list[tuple[str, str, str]] = []
        self.ended = False
        self._selection = selection
        self._revision = 0
        self._stored: dict[str, KeyValue] = {}
        self.cache.watchers[id(self)] = self

    def tell(self, change: Change) -> None:
        notice = self._selection.notice(change)
        if notice is not None:
            metadata = notice.cached.object["metadata"]
            self.told.append((notice.type, metadata["name"], metadata["resourceVersion"]))

    def end(self) -> None:
        self.ended = True

    def put(self, name: str, namespace: str = "default", node: str = "", **labels: str) -> None:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        value = encode(kinds.POD, {"metadata": metadata, "spec": {"nodeName": node}})
        self._revision += 1
        key = object_key(kinds.POD, namespace, name)
        old = self._stored.get(key)
        created = old.create_revision if old else self._revision
        self._stored[key] = KeyValue(key, value, created, self._revision)
        self.cache.apply(Event(self._stored[key], False, old))

    def delete(self, name: str, namespace: str = "default") -> None:
        old = self._stored.pop(object_key(kinds.POD, namespace, name))
        self._revision += 1
        kv = KeyValue(old.key, old.value, old.create_revision, self._revision)
        self.cache.apply(Event(kv, True, old))


def test_a_watcher_of_everything_sees_each_change_as_it_is() -> None:
    script = Script()
    script.put("a")
    script.put("a", app="x")
    script.delete("a")
    assert script.told == [("ADDED", "a", "1"), ("MODIFIED", "a", "2"), ("DELETED", "a", "3")]


def test_an_object_appears_and_disappears_at_a_selectors_border() -> None:
    script = Script(Selection(EVERYTHING.prefix, parse_labels("app=web")))
    script.put("a", app="other")
    script.put("a", app="web")
    script.put("a", app="web", more="x")
    script.put("a", app="other")
    script.delete("a")
    assert script.told == [("ADDED", "a", "2"), ("MODIFIED", "a", "3"), ("DELETED", "a", "4")]


def test_the_event_of_an_object_that_left_holds_it_as_it_last_matched() -> None:
    selection = Selection(EVERYTHING.prefix, parse_labels("app=web"))
    script = Script(selection)
    script.put("a", app="web")
    script.put("a", app="other")
    left = selection.notice(script.cache.since(1)[0])
    assert left is not None
    assert left.cached.object["metadata"]["labels"] == {"app": "web"}


def test_field_selectors_decide_as_label_selectors_do() -> None:
    script = Script(Selection(EVERYTHING.prefix, None, parse_fields("spec.nodeName=n1")))
    script.put("a")
    script.put("a", node="n1")
    script.put("b", node="n2")
    script.delete("a")
    assert script.told == [("ADDED", "a", "2"), ("DELETED", "a", "4")]


def test_who_watches_the_pods_of_one_node_is_not_asked_about_others() -> None:
    selection = Selection(EVERYTHING.prefix, None, parse_fields("spec.nodeName=n1"))
    script = Script(selection)
    script.cache.remove(script)
    script.cache.add(script, selection.topic)
    asked: list[str] = []
    script.tell = lambda change: asked.append(change.plain.type)  # type: ignore[method-assign]
    script.put("other", node="n2")
    script.put("a")
    assert asked == []
    script.put("a", node="n1")
    script.put("a", node="n2")
    script.delete("a")
    assert asked == ["MODIFIED", "MODIFIED"], "also when it leaves"
    assert script.cache.watching == 1
    script.cache.remove(script, selection.topic)
    assert script.cache.watching == 0


def test_a_namespace_is_not_a_prefix_of_another_one() -> None:
    script = Script(Selection("/registry/core/pods/shop/"))
    script.put("a", "shop")
    script.put("a", "shop2")
    assert script.told == [("ADDED", "a", "1")]
    assert [item.key for item in script.cache.select(Selection("/registry/core/pods/shop/"))] == [
        "/registry/core/pods/shop/a"
    ]


def test_a_selection_of_one_key_finds_and_sees_only_that() -> None:
    key = object_key(kinds.POD, "default", "a")
    selection = Selection("/registry/core/pods/default/", key=key)
    script = Script(selection)
    script.put("a")
    script.put("ab")
    assert [name for _, name, _ in script.told] == ["a"]
    assert [item.key for item in script.cache.select(selection)] == [key]
    assert script.cache.select(selection, start_after=key) == []


def test_lists_are_in_key_order_and_go_on_after_a_key() -> None:
    script = Script()
    for name in ("c", "a", "d", "b"):
        script.put(name)
    script.delete("c")
    names = [item.object["metadata"]["name"] for item in script.cache.select(EVERYTHING)]
    assert names == ["a", "b", "d"]
    after = script.cache.select(EVERYTHING, object_key(kinds.POD, "default", "a"))
    assert [item.object["metadata"]["name"] for item in after] == ["b", "d"]


def test_a_watch_starts_from_any_revision_in_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "WINDOW", 3)
    script = Script()
    for name in "abcde":
        script.put(name)
    assert [change.revision for change in script.cache.since(3)] == [4, 5]
    assert [change.revision for change in script.cache.since(2)] == [3, 4, 5]
    assert script.cache.since(9) == []
    with pytest.raises(ApiError) as error:
        script.cache.since(1)
    assert (error.value.code, error.value.message) == (410, "too old resource version: 1 (2)")


def test_the_bytes_of_an_event_are_made_once() -> None:
    script = Script()
    script.put("a")
    change = script.cache.since(0)[0]
    assert change.plain.chunk is change.plain.chunk
    size, _, line = change.plain.chunk.partition(b"\r\n")
    assert line.startswith(b'{"type":"ADDED","object":{"apiVersion":"v1"')
    assert line.endswith(b"}\n\r\n")
    assert int(size, 16) == len(line) - 2
